"""The naive pipeline under tests/bench: it prepares what we prepare, and answers the same messages."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bench.naive import RESIZES, newest_window, planes
from bench.rival import ages_ms, duel

from edge.bench.feed import Feed, Messages, Open, Sent
from edge.transport.messages import Kind
from edge.transport.wire import Stamp, decode_message, encode_array
from models.bundle import Bundle, open_bundle, shipped_bundle
from models.preprocess import preprocess

MS = 1_000_000
STAMP = Stamp(1, 1, 1, 0, 0)
SIMILAR = 0.03
"""Of a normalised value, in the mean: the rival averages areas in one step, we halve and interpolate."""


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(shipped_bundle())


def test_the_rival_prepares_windows_as_we_do(bundle: Bundle) -> None:
    modality = bundle.spec.modality("iq")
    feed = Feed(name="iq", modality=modality, rate_hz=100.0, folder="", payload="iq", samples=10_000)
    samples, window = Messages(feed).at(0), modality.recipe.window_samples
    ours = np.zeros(modality.recipe.input_shape, np.float32)
    preprocess(samples[-window:], modality.recipe, ours)
    np.testing.assert_allclose(newest_window(samples, window), ours, atol=1e-4)


def prepared_otherwise(bundle: Bundle, resize: str) -> float:
    """Return by how much the rival's picture differs from ours, in the mean."""
    modality = bundle.spec.modality("image")
    frame = Messages(Feed(name="image", modality=modality, rate_hz=30.0, folder="", payload="raw")).at(0)
    ours = np.zeros(modality.recipe.input_shape, np.float32)
    preprocess(frame, modality.recipe, ours)
    header, payload = decode_message(encode_array(Kind.FRAME, STAMP, frame))
    return float(np.abs(planes(header, payload, modality.recipe, RESIZES[resize]) - ours).mean())


def test_the_rival_prepares_frames_as_we_do(bundle: Bundle) -> None:
    assert prepared_otherwise(bundle, "area") < SIMILAR


def test_a_rival_that_shrinks_frames_in_a_thirtieth_of_the_time_shows_the_model_another_picture(bundle: Bundle) -> None:
    assert prepared_otherwise(bundle, "linear") > 3 * SIMILAR


def test_what_a_queue_answers_after_the_load_has_ended_or_of_an_earlier_one_is_no_age() -> None:
    ages = {600 * MS: 10 * MS, 1_000 * MS: 20 * MS, 2_100 * MS: 30 * MS, 2_100 * MS + 1: 2_000 * MS, 150 * MS: 51 * MS}
    due_ns = {made_ns: made_ns - age_ns for made_ns, age_ns in ages.items()}
    turn: Any = SimpleNamespace(
        order=Open(names=("image",), seconds=2.0),
        sent=Sent(begun_ns=100 * MS),
        answers=[SimpleNamespace(answer_ns=made_ns) for made_ns in due_ns],
    )
    rig = SimpleNamespace(due_ns=lambda answer, path: due_ns[answer.answer_ns])
    assert ages_ms(rig, turn, "image")["answers"] == 3
    turn.answers = turn.answers[2:] * 10  # a percentile wants as many
    assert ages_ms(rig, turn, "image")["p50"] == 30.0


def test_both_answer_the_same_messages_and_the_naive_one_falls_behind(bundle: Bundle) -> None:
    found = duel(bundle, "iq", 2.0)
    assert (found.offered_per_s > 0, found.overload_s) == (True, 1.0)
    assert found.ours_age_ms["answers"] > 0
    assert found.naive_age_ms["answers"] > 0
    assert found.age_ratio > 1
