import numpy as np
import pytest
from small_graphs import example_arrays, small_spec

from calibration.examples import HELD_BACK, MIN_EXAMPLES, read_examples
from models.errors import InputError


def written(folder, **changes):
    """Write sound examples with some arrays replaced, None to leave one out."""
    arrays = {**example_arrays(small_spec(), 40), **changes}
    np.savez(folder / "examples.npz", **{name: one for name, one in arrays.items() if one is not None})
    return folder / "examples.npz"


def changed(name, place, value):
    array = example_arrays(small_spec(), 40)[name].copy()
    array[place] = value
    return {name: array}


def test_sound_examples_are_read(tmp_path):
    examples = read_examples(written(tmp_path), small_spec())
    assert examples.count == 40
    assert examples.inputs["image"].shape == (40, 3, 12, 10)
    assert examples.note == "made up"


def test_rows_are_split_so_that_none_is_both_calibrated_on_and_judged_by(tmp_path):
    present = np.ones((40, 2), np.float32)
    present[:4, 1] = 0
    examples = read_examples(written(tmp_path, present=present), small_spec())
    kept, held_back = examples.rows(1, is_held_back=False), examples.rows(1, is_held_back=True)
    assert sorted([*kept, *held_back]) == list(range(4, 40))
    assert len(held_back) == 36 // HELD_BACK


def test_examples_without_labels_are_taken(tmp_path):
    assert (read_examples(written(tmp_path, labels=np.full(40, -1)), small_spec()).labels == -1).all()


@pytest.mark.parametrize("name", ["input_image", "present", "labels", "classes", "modalities", "note"])
def test_a_missing_array_is_named(tmp_path, name):
    with pytest.raises(InputError, match=f"{name} missing: write it with uav-train examples"):
        read_examples(written(tmp_path, **{name: None}), small_spec())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": np.array(["x", "y", "z"])}, "the bundle's are .*take examples of this model's data"),
        ({"modalities": np.array(["image", "iq"])}, r"modalities \('image', 'iq'\): the bundle's are"),
        ({"input_image": np.zeros((40, 3, 12, 11), np.float32)}, r"expected \(40, 3, 12, 10\) float32"),
        ({"input_image": np.zeros((40, 3, 12, 10))}, r"float64: expected \(40, 3, 12, 10\) float32"),
        ({"labels": np.zeros(39, np.int64)}, r"labels is \(39,\) int64: expected \(40,\) int64"),
        ({"present": np.ones((40, 3), np.float32)}, r"present is \(40, 3\)"),
        (changed("input_iq", (3, 1, 5), np.nan), "input_iq holds NaN or infinity in 1 examples"),
        (changed("input_iq", slice(None), 0.0), "input_iq is zero throughout"),
        (changed("present", (0, 0), 1.5), "present holds values outside 0 to 1"),
        (changed("present", (0, 0), np.nan), "present holds values outside 0 to 1"),
        (changed("labels", 7, 3), "labels outside -1 to 2"),
        (changed("labels", slice(None), 1), "all examples are of class 'b'.*take examples of all classes"),
        (
            changed("present", (slice(9, None), 1), 0.0),
            f"in 9 examples: expected at least {MIN_EXAMPLES}",
        ),
    ],
)
def test_examples_that_cannot_calibrate_are_refused(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read_examples(written(tmp_path, **changes), small_spec())


def test_nan_in_an_absent_modality_does_no_harm(tmp_path):
    changes = {**changed("present", (3, 0), 0.0), **changed("input_iq", 3, np.nan)}
    examples = read_examples(written(tmp_path, **changes), small_spec())
    assert 3 not in examples.rows(0, is_held_back=False)
    assert not examples.inputs["iq"][3].any()  # a mask of 0 does not stop NaN
    assert all(np.isfinite(values).all() for values in examples.inputs.values())


@pytest.mark.parametrize("data", [b"", b"rubbish", b"PK\x03\x04 half a zip"])
def test_a_file_that_is_none_is_refused(tmp_path, data):
    (tmp_path / "examples.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"not a sound \.npz file"):
        read_examples(tmp_path / "examples.npz", small_spec())


def test_a_half_written_file_is_refused(tmp_path):
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match=r"not a sound \.npz file"):
        read_examples(path, small_spec())


@pytest.mark.parametrize(("place", "value"), [(8, 1), (10, 77), (6, 99)])
def test_a_flipped_bit_in_the_table_of_contents_is_refused(tmp_path, place, value):
    path = written(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + place] = value  # encrypted, compressed as nobody does, of a later release
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"not a sound \.npz file"):
        read_examples(path, small_spec())


def test_a_single_array_is_refused(tmp_path):
    with (tmp_path / "examples.npz").open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(InputError, match=r"not a sound \.npz file"):
        read_examples(tmp_path / "examples.npz", small_spec())


def test_python_objects_are_not_loaded(tmp_path):
    with pytest.raises(InputError, match=r"not a sound \.npz file of plain arrays"):
        read_examples(written(tmp_path, note=np.array({"a": 1}, dtype=object)), small_spec())


def test_an_absent_file_is_named_with_the_remedy(tmp_path):
    with pytest.raises(InputError, match="no such file: write it with uav-train examples"):
        read_examples(tmp_path / "none.npz", small_spec())
