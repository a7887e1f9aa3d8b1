import csv

import numpy as np
import pytest
from training import write_tiny_root

from models.errors import InputError
from trainer.data.corruption import BlockDraws, corrupt_radio, corrupt_scene
from trainer.data.uavpair7 import (
    CLASSES,
    PRESETS,
    Part,
    Preset,
    UavPair7,
    as_hard_as,
    evaluation_examples,
)


@pytest.fixture
def root(tmp_path):
    write_tiny_root(tmp_path)
    return tmp_path


def pairs_of(root):
    return root / "uavpair7" / "pairs_val.csv"


def test_quick_draws_are_normal_numbers_from_the_generator_of_the_example():
    drawn = [BlockDraws(np.random.default_rng(3)).normal(2.0, 5.0, (128, 128, 3)) for _ in range(2)]
    np.testing.assert_array_equal(*drawn)
    other = BlockDraws(np.random.default_rng(4)).normal(2.0, 5.0, (128, 128, 3))
    assert (other != drawn[0]).mean() > 0.99
    assert drawn[0].mean() == pytest.approx(2.0, abs=0.1)
    assert drawn[0].std() == pytest.approx(5.0, rel=0.02)
    assert abs(np.corrcoef(drawn[0].ravel(), other.ravel())[0, 1]) < 0.02


def test_quick_draws_corrupt_as_much_as_exact_ones():
    window = np.random.default_rng(1).integers(0, 256, (8192, 2), np.uint8)
    window[:4096] = 127
    frame = np.full((128, 128, 3), 90, np.uint8)
    for draws in (np.random.default_rng(0), BlockDraws(np.random.default_rng(0))):
        radio = corrupt_radio(window, 2000.0, draws)
        assert radio.dtype == np.float32
        assert np.mean(radio**2) == pytest.approx(0.5, rel=1e-4)
        quiet, loud = (np.mean(part**2) for part in (radio[:4096], radio[4096:]))
        assert quiet / loud == pytest.approx(2000 / (2000 + 2 * 256**2 / 12), rel=0.05)
        scene = corrupt_scene(frame, 0.5, draws)
        assert scene.mean() == pytest.approx(63.0, abs=0.3)
        assert scene.std() == pytest.approx(9.0, abs=0.3)


def test_every_row_becomes_an_example_of_the_contract(root):
    examples = list(evaluation_examples(root, pairs_of(root)))
    assert [example.label for example in examples] == list(range(len(CLASSES)))
    for _, iq, image in examples:
        assert iq.shape == (8192, 2)
        assert iq.dtype == np.float32
        assert image.shape == (128, 128, 3)
        assert image.dtype == np.uint8
        assert np.abs(iq.mean(axis=0)).max() < 1e-4
        assert np.mean((iq**2).sum(axis=1)) == pytest.approx(1.0, abs=1e-4)


def test_examples_are_the_same_on_every_run(root):
    first, second = (list(evaluation_examples(root, pairs_of(root))) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.iq, other.iq)
        np.testing.assert_array_equal(one.image, other.image)


@pytest.mark.parametrize("samples", [512, 300])
def test_radio_corruption_draws_real_then_imaginary_noise_then_the_offset(samples):
    window = np.random.default_rng(1).integers(100, 156, (samples, 2)).astype(np.uint8)
    rng = np.random.default_rng([20251, 4])
    real, imaginary = rng.standard_normal(samples), rng.standard_normal(samples)
    offset = rng.uniform(-0.08, 0.08)
    clean = (window[:, 0] - 127.4) + 1j * (window[:, 1] - 127.4)
    noisy = clean + np.sqrt(80.0 / 2) * (real + 1j * imaginary)
    turned = noisy * np.exp(2j * np.pi * offset * np.arange(samples))
    turned -= turned.mean()
    turned /= np.sqrt(np.mean(np.abs(turned) ** 2))
    found = corrupt_radio(window, 80.0, np.random.default_rng([20251, 4]))
    np.testing.assert_allclose(found[:, 0] + 1j * found[:, 1], turned, atol=1e-5)


def test_burst_power_is_the_median_of_the_windows_90th_percentile(root):
    data = UavPair7(root)
    recording = data.recordings[0]
    per_window = []
    for window in data.windows[:2].astype(float) - 127.4:
        power = (window**2).sum(axis=1).reshape(-1, 64).mean(axis=1)
        per_window.append(np.percentile(power, 90))
    assert data.burst_power(recording) == pytest.approx(np.median(per_window))


def test_scene_without_severity_is_untouched_and_with_it_darker():
    frame = np.full((128, 128, 3), (10, 120, 200), np.uint8)
    np.testing.assert_array_equal(corrupt_scene(frame, 0.0, np.random.default_rng(1)), frame)
    dark = corrupt_scene(frame, 1.0, np.random.default_rng(1))
    assert dark[:, :, 2].mean() == pytest.approx(80, abs=2)


def test_held_out_root_is_found_by_its_suffix(tmp_path):
    pairs = write_tiny_root(tmp_path, "held")
    assert len(list(evaluation_examples(tmp_path, pairs))) == len(CLASSES)


def test_training_part_shares_no_recording_and_no_scene_with_validation(root):
    data = UavPair7(root)
    validation = data.read_pairs(pairs_of(root))
    part, rng = Part(data, "training"), np.random.default_rng(2)
    drawn = [part.pair(PRESETS["mid"], rng) for _ in range(200)]
    assert {pair.label for pair in drawn} == set(range(len(CLASSES)))
    assert not {pair.recording for pair in drawn} & {pair.recording for pair in validation}
    assert not {pair.scene for pair in drawn} & {pair.scene for pair in validation}
    assert all(-10 <= pair.snr_db <= 5 and 0 <= pair.severity <= 0.5 for pair in drawn)


def test_imbalanced_preset_draws_the_last_class_a_tenth_as_often(root):
    part, rng = Part(UavPair7(root), "training"), np.random.default_rng(3)
    labels = [part.pair(PRESETS["mid-imb10"], rng).label for _ in range(4000)]
    counts = np.bincount(labels)
    assert counts[0] / counts[6] == pytest.approx(10, rel=0.35)


def test_presets_are_the_seven_of_the_definition():
    assert {
        "easy": Preset(snr_db=(5, 5), severity=(0, 0)),
        "mid": Preset(snr_db=(-10, 5), severity=(0, 0.5)),
        "hard": Preset(snr_db=(-16, 0), severity=(0, 0.8)),
        "mid-imb10": Preset(snr_db=(-10, 5), severity=(0, 0.5), imbalance=10),
        "hard-imb10": Preset(snr_db=(-16, 0), severity=(0, 0.8), imbalance=10),
        "image-dominant": Preset(snr_db=(-18, -8), severity=(0, 0.2)),
        "rf-dominant": Preset(snr_db=(-3, 8), severity=(0, 1)),
    } == PRESETS


def test_imbalance_falls_by_the_same_factor_from_class_to_class(root):
    part, rng = Part(UavPair7(root), "training"), np.random.default_rng(4)
    for name, preset in PRESETS.items():
        drawn = np.bincount([part.pair(preset, rng).label for _ in range(6000)], minlength=7) / 6000
        expected = preset.imbalance ** (-np.arange(7) / 6)
        np.testing.assert_allclose(drawn, expected / expected.sum(), atol=0.025, err_msg=name)


@pytest.mark.parametrize("name", PRESETS)
def test_validation_pairs_take_the_same_place_in_the_ranges_of_every_preset(root, name):
    preset = PRESETS[name]
    pairs = UavPair7(root).read_pairs(pairs_of(root))
    for pair in pairs:  # -3.5 dB and 0.25: in the ranges of mid at 6.5 / 15 and a half
        moved = as_hard_as(pair, preset)
        low, high = preset.snr_db
        assert moved.snr_db == pytest.approx(low + 6.5 / 15 * (high - low))
        assert moved.severity == pytest.approx(sum(preset.severity) / 2)
        assert (moved.label, moved.window, moved.scene) == (pair.label, pair.window, pair.scene)
    assert not name.startswith("mid") or [as_hard_as(pair, preset) for pair in pairs] == list(pairs)


def test_missing_folder_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(InputError, match=r"rf_windows_\*\.npz, found none: name the data folder"):
        UavPair7(tmp_path)


def test_missing_emitter_is_named(root):
    path = root / "rf_ism433" / "rf_windows_dev.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    keep = arrays["y"] != 5
    np.savez(path, **{k: v if k == "classes" else v[keep] for k, v in arrays.items()})
    with pytest.raises(InputError, match="no windows of UPM"):
        UavPair7(root)


def test_truncated_archive_is_refused(root):
    path = root / "scenes_rsscn7" / "rsscn7_128_dev.zip"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="not readable as a zip of scenes"):
        UavPair7(root)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("label", "seven", "invalid literal"),
        ("label", "3", "label 3 with class 'gParking'"),
        ("image", "gParking/no.jpg", "no image 'gParking/no.jpg'"),
        ("image", "eForest/1.jpg", "no image 'eForest/1.jpg' of class gParking"),
        ("rf_index", "999", "radio window 999 is not of recording"),
        ("rf_recording", "other/01.data", "radio window 2 is not of recording 'other/01.data'"),
        ("rf_floor_snr_db", "nan", "SNR nan dB"),
        ("image_severity", "1.5", "severity 1.5"),
    ],
)
def test_row_that_does_not_belong_to_the_root_is_named_with_its_line(root, column, value, message):
    with pairs_of(root).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[0][column] = value
    with pairs_of(root).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(InputError, match=rf"pairs_val.csv:2: .*{message}"):
        list(evaluation_examples(root, pairs_of(root)))


def test_pairs_file_without_a_column_is_refused(root):
    pairs_of(root).write_text("label,class\n0,gParking\n")
    with pytest.raises(InputError, match="no column image, rf_index"):
        list(evaluation_examples(root, pairs_of(root)))


def test_absent_pairs_file_is_refused(root):
    with pytest.raises(InputError, match=r"none\.csv: cannot be read"):
        list(evaluation_examples(root, root / "none.csv"))


def test_real_validation_pairs_fit_the_real_recordings(shared_data):
    data = UavPair7(shared_data)
    pairs = data.read_pairs(shared_data / "uavpair7" / "pairs_val.csv")
    part, held = Part(data, "training"), Part(data, "validation")
    for ours, theirs in zip(part.windows + part.scenes, held.windows + held.scenes, strict=True):
        assert ours
        assert theirs
        assert not set(ours) & set(theirs)
    assert np.bincount([pair.label for pair in pairs]).tolist() == [60] * 7  # balanced, whatever the preset
    assert [len(scenes) for scenes in part.scenes] == [240] * 7
