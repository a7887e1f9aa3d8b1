import json
import logging
from collections import Counter

import numpy as np
import pytest
from training import write_tiny_root

from edge.recording.composition import START_NS
from edge.recording.synthetic import write_synthetic_flight
from edge.recording.writer import RecordingWriter
from edge.sources.synthetic import SiteGenerator, SyntheticFlight
from edge.sources.synthetic_camera import CameraConditions
from edge.sources.synthetic_radio import RadioConditions
from edge.transport.messages import Kind, Truth
from edge.transport.wire import Stamp, encode_array, encode_bytes
from models.errors import ConfigError, InputError, RecordingError
from models.schema import load_yaml, parse_yaml
from models.spec import ImageRecipe, IqRecipe, ModalitySpec, ModelSpec, VectorRecipe
from trainer.cli import main
from trainer.composite import PairExamples, plan_visits, write_composite_flight
from trainer.config import TrainConfig
from trainer.data.catalogue import open_data_set
from trainer.data.examples import prepare
from trainer.data.recordings import RecordingsData, read_flight
from trainer.data.uavpair7 import CLASSES, UavPair7, evaluation_examples

MS = 1_000_000
WINDOW = 64
RATE_HZ = 1000
IQ = ModalitySpec(name="iq", recipe=IqRecipe(window_samples=WINDOW, sample_rate_hz=RATE_HZ), feature_size=8)
IMAGE = ModalitySpec(name="image", recipe=ImageRecipe(height_px=8, width_px=8), feature_size=6)
LABELS = ("a", "b")


def window(value, samples=WINDOW):
    """Return a window whose every sample but the sign tells its number."""
    return np.stack([np.full(samples, value), np.arange(samples)], axis=1).astype(np.int16)


def frame(value):
    return np.full((12, 16, 3), value, np.uint8)


def write_flight(path, *, labels=(0, 1, 0, 1), names=LABELS, camera_late_ms=10, **options):
    """Write a flight with a truth, a window and a frame a second; both carry the second's number."""
    with RecordingWriter(path, utc_offset_ns=0) as writer:
        for n, class_id in enumerate(labels):
            write_second(writer, n, class_id, names, camera_late_ms, **options)
    return path


def write_second(
    writer, n, class_id, names, camera_late_ms=10, *, samples=WINDOW, rate_hz=RATE_HZ, streams=("radio", "camera"),
    told=True, window_of=window,
):  # fmt: skip
    at_ns = START_NS + n * 1000 * MS
    if told:
        writer.write_message(Truth(capture_ns=at_ns, class_id=class_id, label=names[class_id]), at_ns)
    if "radio" in streams:
        stamp = Stamp(1, 1, n, at_ns, at_ns, 0, rate_hz)
        writer.write_parts("radio", encode_array(Kind.IQ, stamp, window_of(n, samples), with_crc=True), at_ns + MS)
    if "camera" in streams:
        stamp = Stamp(2, 1, n, at_ns + camera_late_ms * MS, at_ns)
        parts = encode_array(Kind.FRAME, stamp, frame(n), with_crc=True)
        writer.write_parts("camera", parts, at_ns + 20 * MS)


@pytest.fixture
def flights(tmp_path):
    for name in ("one", "two", "three"):
        write_flight(tmp_path / f"{name}.mcap")
    return tmp_path


def opened(folder, modalities=(IQ, IMAGE), **changes):
    settings = {"files": (str(folder / "*.mcap"),), "validation": (str(folder / "two.mcap"),), **changes}
    return open_data_set(RecordingsData(**settings), modalities)


def numbers(example):
    """Return which second the window and the frame of an example are of."""
    return int(example.sensors["iq"][0, 0]), int(example.sensors["image"][0, 0, 0])


def test_moments_hold_the_window_and_frame_of_one_time_and_its_truth(flights):
    data = opened(flights)
    assert data.classes == LABELS
    examples = list(data.validation_examples())
    assert [example.label for example in examples] == [0, 1, 0, 1]
    assert [numbers(example) for example in examples] == [(n, n) for n in range(4)]
    assert examples[2].source == f"{flights / 'two.mcap'}: radio 2, camera 2"
    inputs, _ = prepare(examples, ModelSpec(classes=data.classes, modalities=(IQ, IMAGE)))
    assert inputs["iq"].shape == (4, 2, WINDOW)


def test_training_draws_every_class_and_never_from_a_recording_that_validates(flights):
    write_flight(flights / "two.mcap.tmp", labels=[0, 1] * 4).rename(flights / "two.mcap")
    data, rng = opened(flights), np.random.default_rng(1)
    drawn = [data.training_example(rng, 0.0) for _ in range(60)]
    assert set(Counter(example.label for example in drawn)) == {0, 1}
    assert {numbers(example)[0] for example in drawn} == {0, 1, 2, 3}
    assert len(list(data.validation_examples())) == 8


def test_share_by_name_stays_when_recordings_are_added(tmp_path):
    def held(count):
        for n in range(count):
            if not (path := tmp_path / f"flight-{n}.mcap").exists():
                write_flight(path)
        data = opened(tmp_path, validation=(), held_share=0.3)
        return {cut.recording.path.name for cut in data.validation}

    few, many = held(8), held(16)
    assert 0 < len(few) < 8
    assert {name for name in many if int(name[7:-5]) < 8} == few


def test_message_too_far_from_any_other_makes_no_moment(flights):
    write_flight(flights / "two.mcap.tmp", camera_late_ms=300).rename(flights / "two.mcap")
    with pytest.raises(InputError, match="no examples to validate with"):
        opened(flights)
    assert len(list(opened(flights, max_skew_ms=400.0).validation_examples())) == 4


def test_moment_is_of_one_truth_even_where_the_skew_spans_two(tmp_path):
    path = tmp_path / "two.mcap"
    write_flight(tmp_path / "one.mcap")
    write_flight(path, camera_late_ms=990)  # the next second's window is nearer than this one's
    examples = list(opened(tmp_path, max_skew_ms=1000.0).validation_examples())
    assert [numbers(example) for example in examples] == [(n, n) for n in range(4)]


def test_long_messages_give_their_newest_window_or_any_of_it_in_training(tmp_path):
    for name in ("one", "two"):
        write_flight(tmp_path / f"{name}.mcap", samples=3 * WINDOW, camera_late_ms=2 * WINDOW)
    data, rng = opened(tmp_path), np.random.default_rng(1)
    first = next(data.validation_examples()).sensors["iq"]
    assert first[:, 1].tolist() == list(range(2 * WINDOW, 3 * WINDOW))
    starts = {int(data.training_example(rng, 0.0).sensors["iq"][0, 1]) for _ in range(100)}
    assert len(starts) > 30
    assert max(starts) <= 2 * WINDOW


def test_newest_part_of_a_long_message_tells_when_it_was_captured(tmp_path):
    for name in ("one", "two"):
        write_flight(tmp_path / f"{name}.mcap", samples=5 * WINDOW, camera_late_ms=0)
    with pytest.raises(InputError, match="no examples to validate with"):
        opened(tmp_path)


def test_window_across_a_change_of_truth_is_left_out(tmp_path):
    long = 1000 + WINDOW  # 1 s and a little: its newest window belongs to the next truth
    for name in ("one", "two"):
        write_flight(tmp_path / f"{name}.mcap", samples=long, camera_late_ms=1000)
    data = opened(tmp_path, max_skew_ms=50.0)
    with pytest.raises(InputError, match="no examples of"):
        data.training_example(np.random.default_rng(1), 0.0)


def test_validation_is_spread_over_the_flights_where_there_is_too_much(flights):
    examples = list(opened(flights, validation_examples=2).validation_examples())
    assert [numbers(example) for example in examples] == [(0, 0), (2, 2)]


def test_streams_are_named_where_a_recording_has_several_of_a_kind(tmp_path):
    for name in ("one", "two"):
        with RecordingWriter(tmp_path / f"{name}.mcap", utc_offset_ns=0) as writer:
            for n, class_id in enumerate((0, 1)):
                write_second(writer, n, class_id, LABELS)
                at_ns = START_NS + n * 1000 * MS
                dark = encode_array(Kind.FRAME, Stamp(3, 1, n, at_ns, at_ns), frame(200 + n))
                writer.write_parts("night", dark, at_ns + 30 * MS)
    chosen = opened(tmp_path, streams={"radio": "iq", "night": "image"})
    assert [numbers(example)[1] for example in chosen.validation_examples()] == [200, 201]
    with pytest.raises(ConfigError, match="streams feed thermal: expected modalities of the model, iq, image"):
        opened(tmp_path, streams={"night": "thermal"})
    with pytest.raises(ConfigError, match=r"none of the streams day in it, found .*night"):
        opened(tmp_path, streams={"day": "image"})


def test_labels_may_be_named_in_another_order_than_the_truth_counts_them(flights):
    data = opened(flights, classes=("b", "a"))
    assert data.classes == ("b", "a")
    assert [example.label for example in data.validation_examples()] == [1, 0, 1, 0]


def test_frames_are_augmented_in_training_alone_and_only_on_demand(flights):
    rng = np.random.default_rng(1)
    plain = opened(flights).training_example(rng, 0.0)
    assert plain.sensors["image"].shape == (12, 16, 3)
    data = opened(flights, augmentation="aerial")
    shapes = {data.training_example(rng, 0.0).sensors["image"].shape for _ in range(40)}
    assert len(shapes) > 2
    assert next(data.validation_examples()).sensors["image"].shape == (12, 16, 3)
    upright = opened(flights, augmentation="upright")
    shapes = {upright.training_example(rng, 0.0).sensors["image"].shape[:2] for _ in range(40)}
    assert all(width > height for height, width in shapes)


def test_damaged_recording_gives_its_rest_and_says_what_is_lost(flights, caplog):
    path = flights / "two.mcap"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with caplog.at_level(logging.WARNING):
        data = opened(flights)
    assert "two.mcap: damaged (no end (recorder killed, or file cut)" in caplog.text
    assert 0 < len(list(data.validation_examples())) < 4


def test_a_flight_into_which_faults_were_injected_is_no_silent_teacher(tmp_path, caplog):
    with RecordingWriter(tmp_path / "test.mcap", metadata={"injected_faults": "camera:wrong@1s"}) as writer:
        for n in range(4):
            write_second(writer, n, n % 2, LABELS)
    assert len(read_flight(tmp_path / "test.mcap", RecordingsData(files=("x",)), (IQ, IMAGE)).moments) == 4
    assert "faults were injected into what its sensors sent: camera:wrong@1s" in caplog.text


def test_recording_without_moments_is_said(flights, caplog):
    write_flight(flights / "four.mcap", streams=("camera",))
    with caplog.at_level(logging.WARNING):
        opened(flights)
    assert "four.mcap: 0 moments" in caplog.text


@pytest.mark.parametrize(
    ("flight", "changes", "error", "message"),
    [
        ({}, {"files": ("{}/absent.mcap", "{}/two.mcap")}, RecordingError, r"absent\.mcap: cannot be read"),
        ({}, {"files": ("{}/*.bag",)}, InputError, r"\*\.bag: no file of such a name"),
        ({}, {"files": ("{}/one.mcap",), "validation": ()}, InputError, "all of it validates: expected at least one"),
        ({}, {"validation": ("{}/*.mcap",)}, InputError, "all of it validates: expected at least one"),
        ({}, {"files": ("{}/one.mcap",)}, InputError, r"two\.mcap: expected recordings that `files` names as well"),
        ({"told": False}, {}, InputError, "one.mcap: no truth in it"),
        ({"streams": ("camera",)}, {}, InputError, "nothing in any of them feeds iq .no such stream"),
        ({"samples": 32}, {}, InputError, "nothing in any of them feeds iq .radio: short_window"),
        ({"rate_hz": 2000}, {}, InputError, "nothing in any of them feeds iq .radio: wrong_sample_rate"),
        ({"labels": (0, 0)}, {"classes": LABELS}, InputError, "no examples of b"),
        ({}, {"classes": ("a", "c")}, InputError, "the truth names b: expected one of a, c"),
        ({"labels": (0, 2), "names": ("a", "b", "c")}, {}, InputError, "expected two or more classes 0, 1, 2"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(tmp_path, flight, changes, error, message):
    for name in ("one", "two"):
        write_flight(tmp_path / f"{name}.mcap", **flight)
    settings = {key: tuple(one.format(tmp_path) for one in value) for key, value in changes.items()}
    with pytest.raises(error, match=message):
        opened(tmp_path, **settings).training_example(np.random.default_rng(1), 0.0)


@pytest.mark.parametrize("validation", [(), ("{}/one.mcap",)])
def test_single_flight_can_be_asked_about(tmp_path, validation):
    write_flight(tmp_path / "one.mcap")
    data = opened(tmp_path, validation=tuple(one.format(tmp_path) for one in validation))
    assert [example.label for example in data.validation_examples()] == [0, 1, 0, 1]


def test_flights_of_some_classes_can_be_asked_about(tmp_path):
    for name in ("one", "two"):
        write_flight(tmp_path / f"{name}.mcap", labels=(0, 0))
    data = opened(tmp_path, validation=(str(tmp_path / "*.mcap"),), classes=("a", "b"))
    assert [example.label for example in data.validation_examples()] == [0] * 4


def test_truths_that_contradict_each_other_are_refused(flights):
    write_flight(flights / "four.mcap", names=("a", "other"))
    with pytest.raises(InputError, match=r"truth 1 is .*in other recordings .*name all labels"):
        opened(flights)
    with RecordingWriter(flights / "five.mcap", utc_offset_ns=0) as writer:
        write_second(writer, 0, 0, LABELS)
        write_second(writer, 1, 0, ("other",))
    with pytest.raises(InputError, match=r"five\.mcap: truth 0 is 'a' and 'other'"):
        opened(flights)


def test_rows_of_numbers_are_in_no_recording(flights):
    row = ModalitySpec(name="row", recipe=VectorRecipe(values=3), feature_size=4)
    with pytest.raises(ConfigError, match="recordings hold I/Q and images"):
        opened(flights, (IQ, IMAGE, row))


def test_broken_image_and_endless_sample_are_named_with_their_file(tmp_path):
    for name in ("one", "two"):
        with RecordingWriter(tmp_path / f"{name}.mcap", utc_offset_ns=0) as writer:
            for n in (0, 1):
                write_second(writer, n, n, LABELS, streams=("radio",))
                at_ns = START_NS + n * 1000 * MS
                parts = encode_bytes(Kind.ENCODED_FRAME, Stamp(2, 1, n, at_ns, at_ns), b"no image")
                writer.write_parts("camera", parts, at_ns + 2 * MS)
    with pytest.raises(InputError, match=r"two\.mcap: stream camera, sequence 0: no image .*undecodable"):
        next(opened(tmp_path).validation_examples())


def test_sample_that_is_no_number_is_named_with_its_file(tmp_path):
    for name in ("one", "two"):
        write_flight(tmp_path / f"{name}.mcap", window_of=lambda n, samples: np.full((samples, 2), np.nan, np.float32))
    with pytest.raises(InputError, match=r"two\.mcap: stream radio, sequence 0: NaN"):
        next(opened(tmp_path).validation_examples())


@pytest.mark.parametrize(
    "line", ["files: []", "held_share: 1.0", "classes: [a, a]", "classes: [a]", "max_skew_ms: -1.0",
             "validation_examples: 0", "augmentation: much"],
)  # fmt: skip
def test_configuration_that_cannot_be_is_refused(line):
    files = "" if line.startswith("files") else "files: [a.mcap]\n"
    with pytest.raises(ConfigError, match=line.split(":", maxsplit=1)[0]):
        parse_yaml(f"kind: recordings\n{files}{line}\n".encode(), RecordingsData, "run.yaml")


def test_configuration_to_begin_with_is_whole(root):
    config = load_yaml(root / "launch" / "train-recordings.yaml", TrainConfig)
    assert isinstance(config.data, RecordingsData)


def test_composite_flight_gives_back_the_pairs_it_was_made_of(tmp_path):
    pairs = write_tiny_root(tmp_path)
    data = UavPair7(tmp_path)
    rows = data.read_pairs(pairs)
    visits = plan_visits([row.label for row in rows], 1.4)
    for name in ("one", "two"):
        write_composite_flight(tmp_path / f"{name}.mcap", PairExamples(data, rows), visits, log=None)
    modalities = (ModalitySpec(name="iq", recipe=IqRecipe(window_samples=8192, sample_rate_hz=250_000), feature_size=4),
                  IMAGE)  # fmt: skip
    cut = list(opened(tmp_path, modalities).validation_examples())
    made = list(evaluation_examples(tmp_path, pairs))
    assert [example.label for example in cut] == [example.label for example in made]
    for ours, origin in zip(cut, made, strict=True):
        np.testing.assert_array_equal(ours.sensors["iq"], origin.iq)
        np.testing.assert_array_equal(ours.sensors["image"], origin.image)
    assert opened(tmp_path, modalities).classes == CLASSES


def test_network_learns_from_flights_what_a_held_out_one_shows(tmp_path, capsys):
    generator = SiteGenerator(
        chunk_samples=1024,
        frame_px=(48, 64),
        radio_conditions=RadioConditions(snr_db=(15.0, 18.0), silence=0.0, least_burst=0.9, second_path=0.0),
        camera_conditions=CameraConditions(
            light=(0.9, 1.0), blur_px=(0.3, 0.4), haze=(0.0, 0.1), saturation=(0.9, 1.0)
        ),
    )
    for seed in (1, 2, 3):
        flight = SyntheticFlight(seed, 0.5, 12.0, 8.0, generator=generator)
        write_synthetic_flight(tmp_path / f"flight-{seed}.mcap", flight, 24.0, lambda done: None)
    (tmp_path / "run.yaml").write_text(f"""
description: synthetic flights
out: {tmp_path}/run
data:
  kind: recordings
  files: ['{tmp_path}/flight-*.mcap']
  validation: ['{tmp_path}/flight-3.mcap']
  streams: {{radio: iq, camera: image}}
  max_skew_ms: 80.0
modalities:
  - {{name: iq, recipe: {{kind: iq, window_samples: 1024, sample_rate_hz: 1_000_000}}, feature_size: 16}}
  - {{name: image, recipe: {{kind: image, height_px: 24, width_px: 32}}, feature_size: 16}}
fusion: {{method: iemf}}
sizes:
  iq: {{widths: [8, 16], strides: [4, 4]}}
  image: {{widths: [8, 16], strides: [2, 2]}}
method: {{kind: joint}}
epochs: 5
examples_per_epoch: 320
batch: 32
learning_rate: 0.01
seed: 1
""")
    assert main(["fit", "--config", str(tmp_path / "run.yaml"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["examples"] >= 150
    assert found["accuracy"] >= 0.5  # eight classes: chance is 0.125
    assert found["accuracy_image"] >= 0.4
