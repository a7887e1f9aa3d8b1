"""Samples for calibration: of each class as many, as loud as wished, whole in one file."""

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest
from test_trainer_recordings import LABELS, WINDOW, write_flight
from training import IQ, Tones, tiny_spec

from models.bundle import GraphEntry, Manifest, write_bundle
from models.errors import InputError
from models.spec import ImageRecipe, IqRecipe, ModalitySpec, ModelSpec, VectorRecipe
from trainer.cli import main
from trainer.data.examples import Example, prepare
from trainer.sample import Wish, draw_sample, first_of_each, louder, write_sample

SPEC = tiny_spec()
LABELS_OF_SPEC = (0, 1, 2)
UINT8_STEP = 1.0


def drawn(count=12, examples=None, **wish):
    examples = Tones().validation_examples() if examples is None else examples
    return draw_sample(examples, LABELS_OF_SPEC, SPEC, Wish(count=count, **wish))


def test_a_sample_has_as_many_of_each_class_in_an_order_by_chance():
    sample = drawn(30)
    assert Counter(sample.labels.tolist()) == {0: 10, 1: 10, 2: 10}
    assert sample.labels.tolist() != [n % 3 for n in range(30)]


def test_inputs_labels_and_presence_belong_together():
    examples = list(Tones().validation_examples())
    examples[4] = dataclasses.replace(examples[4], sensors={**examples[4].sensors, "image": None})
    sample = drawn(60, examples)
    inputs, labels = prepare(examples, SPEC)
    for n in range(len(sample.labels)):
        row = next(i for i, one in enumerate(inputs["iq"]) if np.array_equal(one, sample.inputs["iq"][n]))
        assert labels[row] == sample.labels[n]
        np.testing.assert_array_equal(inputs["image"][row], sample.inputs["image"][n])
        assert sample.present[n].tolist() == [1.0, 0.0 if row == 4 else 1.0]


def test_equal_seeds_give_equal_samples_and_others_other_ones():
    first, again, other = (drawn(9, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.inputs["iq"], again.inputs["iq"])
    assert not np.array_equal(np.sort(first.inputs["iq"], axis=0), np.sort(other.inputs["iq"], axis=0))


def test_chance_chooses_from_all_of_the_examples_not_from_the_first():
    examples = [Example(label=0, sensors={"iq": noise(n), "image": grey(n)}) for n in range(200)]
    sample = draw_sample(examples, [0], SPEC, Wish(count=50))
    levels = np.sort(np.rint((sample.inputs["image"][:, 0, 0, 0] * 0.25 + 0.5) * 255).astype(int))
    assert len(set(levels)) == 50
    assert np.abs(np.median(levels) - 100) < 30


def test_fewer_of_a_class_leave_its_places_empty():
    examples = [one for one in Tones().validation_examples() if one.label != 2][:7]
    sample = drawn(30, examples)
    assert Counter(sample.labels.tolist()) == Counter(one.label for one in examples)


def test_no_examples_at_all_are_refused():
    with pytest.raises(InputError, match="no examples to sample"):
        drawn(12, [])


def test_endless_draws_end_when_every_class_is_full():
    endless = (Example(label=n % 2, sensors={}) for n in iter(lambda: next(counter), None))
    counter = iter(range(10**9))
    assert Counter(one.label for one in first_of_each(endless, (0, 1), 5)) == {0: 3, 1: 2}
    assert next(counter) < 10


def test_a_class_that_never_comes_is_not_waited_for():
    endless = (Example(label=0, sensors={}) for _ in iter(int, 1))
    assert len(list(first_of_each(endless, (0, 1), 4))) == 2


def noise(seed, dtype=np.float32):
    return np.random.default_rng(seed).normal(0, 1, (64, 2)).astype(dtype)


def grey(level):
    return np.full((8, 8, 3), level, np.uint8)


def heard(iq, gain_db, image=None):
    example = Example(label=0, sensors={"iq": iq, "image": grey(100) if image is None else image})
    return louder(example, SPEC, gain_db).sensors


def test_a_gain_of_6_db_doubles_what_the_receiver_hears():
    window = noise(1)
    np.testing.assert_allclose(heard(window, 20 * np.log10(2))["iq"], 2 * window, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "zero", "lowest", "highest"),
    [(np.uint8, 127.5, 0, 255), (np.int8, 0, -128, 127), (np.int16, 0, -32768, 32767)],
)
def test_integers_are_scaled_about_their_zero_rounded_and_clipped(dtype, zero, lowest, highest):
    quiet = np.tile(np.array([[zero - 10.5, zero + 10.5]]) if zero else np.array([[-10, 10]]), (64, 1)).astype(dtype)
    softer = heard(quiet, -20.0)["iq"]
    assert softer.dtype == dtype
    np.testing.assert_allclose(softer.astype(float) - zero, (quiet.astype(float) - zero) / 10, atol=UINT8_STEP / 2)
    loud = heard(quiet, 80.0)["iq"]
    assert (loud.min(), loud.max()) == (lowest, highest)


@pytest.mark.parametrize(("gain_db", "expected"), [(-20.0, 10), (0.0, 100), (6.0, 200), (12.0, 255)])
def test_light_changes_by_the_same_factor_and_ends_at_white(gain_db, expected):
    assert set(np.unique(heard(noise(1), gain_db)["image"])) == {expected}


def test_what_is_absent_or_a_row_of_numbers_has_no_gain():
    bands = ModalitySpec(name="bands", recipe=VectorRecipe(values=3), feature_size=4)
    spec = ModelSpec(classes=("a", "b"), modalities=(IQ, bands))
    example = Example(label=0, sensors={"iq": None, "bands": np.array([1, 2, 3], np.int16)})
    changed = louder(example, spec, 6.0).sensors
    assert changed["iq"] is None
    assert changed["bands"].tolist() == [1, 2, 3]


def test_examples_of_every_class_take_the_gains_in_turns():
    examples = [Example(label=n % 3, sensors={"iq": noise(n), "image": grey(10)}) for n in range(30)]
    sample = drawn(30, examples, gains_db=(0.0, 20.0))
    levels = np.rint((sample.inputs["image"][:, 0, 0, 0] * 0.25 + 0.5) * 255).astype(int)
    assert Counter(zip(sample.labels.tolist(), levels.tolist(), strict=True)) == dict.fromkeys(
        [(label, level) for label in range(3) for level in (10, 100)], 5
    )


def test_a_written_sample_is_read_back_without_pickles(tmp_path):
    sample = drawn(9)
    write_sample(tmp_path / "e.npz", sample, SPEC, "from a test")
    with np.load(tmp_path / "e.npz", allow_pickle=False) as stored:
        np.testing.assert_array_equal(stored["input_iq"], sample.inputs["iq"])
        np.testing.assert_array_equal(stored["labels"], sample.labels)
        assert stored["present"].dtype == stored["input_image"].dtype == np.float32
        assert stored["modalities"].tolist() == ["iq", "image"]
        assert stored["classes"].tolist() == ["a", "b", "c"]
        assert str(stored["note"]) == "from a test"


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "e.npz"
    path.write_bytes(b"old")

    def full(stream, **arrays):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        write_sample(path, drawn(3), SPEC, "")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


CONFIG = """
description: test
out: unused
data: {{kind: recordings, files: ["{folder}/*.mcap"], validation: ["{folder}/two.mcap"]}}
modalities:
  - {{name: iq, recipe: {{kind: iq, window_samples: 64, sample_rate_hz: 1000}}, feature_size: 8}}
  - {{name: image, recipe: {{kind: image, height_px: 8, width_px: 8}}, feature_size: 8}}
fusion: {{}}
sizes:
  iq: {{widths: [4], strides: [2]}}
  image: {{widths: [4], strides: [2]}}
method: {{kind: joint}}
epochs: 1
examples_per_epoch: 16
batch: 8
learning_rate: 0.001
seed: 1
"""


@pytest.fixture
def flights(tmp_path):
    for name in ("one", "two"):
        write_flight(tmp_path / f"{name}.mcap")
    (tmp_path / "train.yaml").write_text(CONFIG.format(folder=tmp_path))
    return tmp_path


def written(path):
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


@pytest.mark.parametrize(("part", "count"), [("training", 10), ("validation", 4)])
def test_either_part_of_recorded_flights_becomes_a_file(flights, capsys, part, count):
    out = flights / "e.npz"
    arguments = ["--config", str(flights / "train.yaml"), "--part", part, "--out", str(out), "--gains-db", "-6", "0"]
    assert main(["examples", *arguments, "--count", "10", "--json"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert json.loads(printed[-1])["examples"] == count
    stored = written(out)
    assert stored["input_iq"].shape == (count, 2, WINDOW)
    assert Counter(stored["labels"].tolist()) == {0: count // 2, 1: count // 2}
    assert str(stored["note"]) == f"{part} examples of {flights / 'train.yaml'}, seed 0, gains of -6 0 dB"
    assert any("fewer than the 10 asked for" in line for line in printed) == (count < 10)


@pytest.fixture
def bundle(tmp_path):
    """Return a bundle of a spec alone: nothing flies it here."""
    modalities = (
        ModalitySpec(name="iq", recipe=IqRecipe(window_samples=WINDOW, sample_rate_hz=1000), feature_size=8),
        ModalitySpec(name="image", recipe=ImageRecipe(height_px=8, width_px=8), feature_size=8),
    )
    graphs = tuple(GraphEntry(role=r, precision="fp32", file=f"onnx/{r}.onnx") for r in ("iq", "image", "fusion"))
    manifest = Manifest(
        schema=1, name="bare", version=1, licence="", description="", reproduce=(), metrics={}, tools={},
        spec=ModelSpec(classes=("b", "c"), modalities=modalities), graphs=graphs,
    )  # fmt: skip
    return write_bundle(tmp_path, manifest, {graph.file: b"x" for graph in graphs})


def test_flights_without_a_truth_become_examples_of_no_label(tmp_path, bundle):
    write_flight(tmp_path / "f.mcap", labels=[0] * 6, told=False)
    out = tmp_path / "e.npz"
    arguments = ["--recording", str(tmp_path / "f.mcap"), "--bundle", str(bundle), "--out", str(out)]
    assert main(["examples", *arguments, "--count", "5"]) == 0
    stored = written(out)
    assert stored["labels"].tolist() == [-1] * 5
    assert stored["classes"].tolist() == ["b", "c"]
    assert np.abs(stored["input_iq"]).max() > 0


def test_flights_with_a_truth_keep_what_the_model_has_a_class_for(tmp_path, bundle):
    write_flight(tmp_path / "f.mcap", names=LABELS)
    out = tmp_path / "e.npz"
    arguments = ["--recording", str(tmp_path / "f.mcap"), "--bundle", str(bundle), "--out", str(out)]
    assert main(["examples", *arguments, "--count", "4"]) == 0
    assert Counter(written(out)["labels"].tolist()) == {-1: 2, 0: 2}


def test_a_flight_without_the_camera_is_refused(tmp_path, bundle, capsys):
    write_flight(tmp_path / "f.mcap", streams=("radio",))
    arguments = ["--recording", str(tmp_path / "f.mcap"), "--bundle", str(bundle), "--out", str(tmp_path / "e.npz")]
    assert main(["examples", *arguments]) == 7
    assert "no moment at which every sensor of the model delivered" in capsys.readouterr().err
    assert not (tmp_path / "e.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "x.yaml", "--count", "0"], "--count 0: expected 1 to 100000"),
        (["--config", "x.yaml", "--seed", "-1"], "--seed -1: expected 0 to"),
        (["--config", "x.yaml", "--gains-db", "nan"], "--gains-db nan: expected -60 to 60"),
        (["--config", "x.yaml", "--gains-db", "0", "61"], "--gains-db 61: expected -60 to 60"),
        (["--config", "x.yaml", "--bundle", "b"], "--bundle and --recording go together"),
        (["--recording", "f.mcap"], "--bundle and --recording go together"),
        (["--recording", "f.mcap", "--bundle", "b", "--part", "training"], "--part goes with --config"),
    ],
)
def test_a_command_line_that_makes_no_sense_ends_with_exit_code_2(tmp_path, capsys, arguments, message):
    assert main(["examples", *arguments, "--out", str(tmp_path / "e.npz")]) == 2
    assert message in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_told_before_the_work(tmp_path, capsys):
    assert main(["examples", "--config", "x.yaml", "--out", str(tmp_path / "absent" / "e.npz")]) == 6
    assert "absent/e.npz" in capsys.readouterr().err
