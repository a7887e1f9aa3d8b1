import dataclasses

import numpy as np
import pytest
from judging import flying_bundle, small_examples

from calibration.judging.answers import ALL, answer, masks
from models.bundle import FUSION

PRESENT = np.float32([[1, 1], [0.5, 1], [0, 1], [1, 0]])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return flying_bundle(tmp_path_factory.mktemp("bundle"))


def test_in_every_case_the_sensor_that_it_names_is_gone_and_the_others_stay_as_they_are(bundle):
    found = masks(bundle.spec, PRESENT)
    assert list(found) == [ALL, "without_iq", "without_image"]
    np.testing.assert_array_equal(found[ALL], PRESENT)
    np.testing.assert_array_equal(found["without_iq"], PRESENT * np.float32([0, 1]))
    np.testing.assert_array_equal(found["without_image"], PRESENT * np.float32([1, 0]))


def test_a_sensor_that_is_gone_weighs_nothing_and_examples_with_none_left_are_left_out(bundle):
    examples = small_examples(4)
    graphs = {role: bundle.graph(role, batch="any") for role in (*bundle.spec.modality_names, FUSION)}
    cases = answer(graphs, bundle.spec, dataclasses.replace(examples, present=PRESENT)).cases
    assert {case: list(one.rows) for case, one in cases.items()} == {
        ALL: [0, 1, 2, 3], "without_iq": [0, 1, 2], "without_image": [0, 1, 3],
    }  # fmt: skip
    assert not cases["without_iq"].weights[:, 0].any()
    assert not cases["without_image"].weights[:, 1].any()
    assert cases[ALL].weights[0].all()
    assert not np.allclose(cases["without_iq"].logits[0], cases[ALL].logits[0])
