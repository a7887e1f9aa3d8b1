import dataclasses
import math

import numpy as np
import pytest
from small_graphs import (
    dense_branch,
    example_arrays,
    graph_bytes,
    radio_branch,
    residual_branch,
    small_bundle,
    small_spec,
)

from calibration.examples import Examples
from calibration.quantization.clipping import clip_range
from calibration.quantization.comparison import Comparison, best_method, compare_methods
from calibration.quantization.histogram import histogram
from calibration.quantization.operators import view
from calibration.quantization.ranges import Ranges, check_graph, collect_ranges, merge_ranges, read_ranges, write_ranges
from calibration.quantization.reference import run_reference
from models.errors import BundleError, InputError
from models.quantization import SCHEMES

CLOSE = 1e-5  # float32 sums in another order


def examples(count=40, seed=0, **changes):
    arrays = {**example_arrays(small_spec(), count, seed), **changes}
    inputs = {name: arrays[f"input_{name}"] for name in small_spec().modality_names}
    return Examples(inputs=inputs, present=arrays["present"], labels=arrays["labels"], note="made up")


def collect(bundle, taken, method="mse"):
    return collect_ranges(bundle, taken, method)


def same(one, other):
    assert one.keys() == other.keys()
    for role, tensors in one.items():
        assert tensors.keys() == other[role].keys()
        for name, found in tensors.items():
            expected = other[role][name]
            np.testing.assert_array_equal(found.counts, expected.counts)
            assert dataclasses.replace(found, counts=None) == dataclasses.replace(expected, counts=None)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("bundle"))


def test_ranges_are_those_of_the_tensors_over_the_examples_not_held_back(bundle):
    taken = examples()
    ranges = collect(bundle, taken)
    inputs = taken.inputs["image"][taken.rows(1, is_held_back=False)]
    expected = run_reference(view(residual_branch()), {"input": inputs})
    found = ranges.histograms["image"]
    assert set(found) == {"input", "a", "b", "three_sum", "c", "d", "pooled", "feature", "logits"}
    assert {one.count for one in found.values()} <= {expected[name].size for name in found}
    for name, one in found.items():
        assert one.minimum == pytest.approx(expected[name].min(), abs=CLOSE)
        assert one.maximum == pytest.approx(expected[name].max(), abs=CLOSE)
    assert ranges.counts == {"iq": 30, "image": 30}


def test_progress_counts_up_to_all_examples_that_are_run(bundle):
    told = []
    collect_ranges(bundle, examples(100), "mse", lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == [32, 64, 75, 107, 139, 150]
    assert {total for _, total in told} == {150}


def test_neither_the_order_of_examples_nor_their_grouping_leaves_a_trace(bundle):
    taken = examples(44)
    kept = taken.rows(0, is_held_back=False)
    order = np.arange(44)
    order[kept] = kept[::-1]
    turned = dataclasses.replace(taken, inputs={name: array[order] for name, array in taken.inputs.items()})
    same(collect(bundle, turned).histograms, collect(bundle, taken).histograms)


def test_ranges_of_parts_are_the_ranges_of_the_whole(bundle):
    one, other = examples(40, seed=1), examples(36, seed=2)
    both = dataclasses.replace(
        one,
        inputs={name: np.concatenate([array, other.inputs[name]]) for name, array in one.inputs.items()},
        present=np.ones((76, 2), np.float32),
        labels=np.zeros(76, np.int64),
    )
    parts = merge_ranges(collect(bundle, one), collect(bundle, other))
    same(parts.histograms, collect(bundle, both).histograms)
    assert parts.counts == {"iq": 57, "image": 57}
    assert parts.note == "made up"


def test_ranges_of_different_graphs_are_not_merged(bundle, tmp_path):
    other = small_bundle(tmp_path, iq=radio_branch(seed=9))
    with pytest.raises(InputError, match="of different FP32 graphs"):
        merge_ranges(collect(bundle, examples()), collect(other, examples()))


def test_ranges_are_read_as_they_were_written_and_written_alike(bundle, tmp_path):
    ranges = collect(bundle, examples(), "entropy")
    write_ranges(tmp_path / "work/ranges.npz", ranges)
    first = (tmp_path / "work/ranges.npz").read_bytes()
    read = read_ranges(tmp_path / "work/ranges.npz")
    same(read.histograms, ranges.histograms)
    assert dataclasses.replace(read, histograms={}) == dataclasses.replace(ranges, histograms={})
    write_ranges(tmp_path / "work/ranges.npz", read)
    assert (tmp_path / "work/ranges.npz").read_bytes() == first
    assert [file.name for file in (tmp_path / "work").iterdir()] == ["ranges.npz"]


@pytest.mark.parametrize("damage", ["truncated", "of other arrays", "of another release"])
def test_a_damaged_file_of_ranges_is_refused(bundle, tmp_path, damage):
    path = tmp_path / "ranges.npz"
    write_ranges(path, collect(bundle, examples()))
    with np.load(path) as stored:
        arrays = dict(stored)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "of other arrays":
        np.savez(path, **{**arrays, "counts": arrays["counts"][:, 1:]})
    else:
        np.savez(path, **{**arrays, "about": np.array(str(arrays["about"]).replace('"format": 2', '"format": 9'))})
    with pytest.raises(InputError, match="run uav-calibrate collect again"):
        read_ranges(path)


def test_ranges_of_another_graph_are_refused(bundle):
    ranges = collect(bundle, examples())
    check_graph(ranges, "iq", radio_branch())
    with pytest.raises(InputError, match="whose graph of iq is another: run uav-calibrate collect again"):
        check_graph(ranges, "iq", radio_branch(seed=9))


def test_a_role_without_ranges_is_named():
    empty = Ranges(bundle="x-1", graphs={}, note="", examples=(), counts={}, method="mse", histograms={}, maxima={})
    with pytest.raises(InputError, match="no ranges for iq"):
        empty.of("iq", "trt")


def test_each_target_gets_the_range_that_suits_its_integers():
    values = np.random.default_rng(0).standard_t(3, 50_000).astype(np.float32)
    found = {"iq": {"x": histogram(values)}}
    ranges = Ranges(
        bundle="x-1", graphs={}, note="", examples=(), counts={}, method="mse", histograms=found, maxima={"iq": ()}
    )
    assert ranges.of("iq", "trt") != ranges.of("iq", "cpu-x86")
    assert ranges.of("iq", "trt", "minmax") == {"x": (float(values.min()), float(values.max()))}


def test_a_tensor_of_which_a_maximum_is_taken_keeps_its_whole_range(bundle):
    ranges = collect(bundle, examples(300))
    assert ranges.maxima == {"iq": (), "image": ("d",)}
    found = ranges.histograms["image"]["d"]
    assert clip_range(found, "percentile", SCHEMES["cpu-x86"])[1] < found.maximum
    assert ranges.of("image", "cpu-x86", "percentile")["d"] == (found.minimum, found.maximum)


def test_a_network_that_makes_nan_of_finite_examples_is_refused(tmp_path):
    weight = np.full((4, 2, 1), 3e38, np.float32)
    nodes = [
        _node("Conv", ["input", "w"], "x"), _node("Relu", ["x"], "y"),
        _node("ReduceSum", ["y", "axes"], "feature", keepdims=0), _node("Identity", ["feature"], "logits"),
    ]  # fmt: skip
    broken = graph_bytes(
        nodes, {"w": weight, "axes": np.array([2])}, {"input": (2, 64)}, {"feature": (4,), "logits": (4,)}
    )
    with pytest.raises(InputError, match="iq: y became NaN or infinite on finite examples"):
        collect(small_bundle(tmp_path, iq=broken), examples())


def test_a_graph_with_an_operator_that_is_not_known_is_refused_with_node_and_remedy(tmp_path):
    nodes = [_node("Sigmoid", ["input"], "feature"), _node("Identity", ["feature"], "logits")]
    shape = {"feature": (2, 64), "logits": (2, 64)}
    other = graph_bytes(nodes, {}, {"input": (2, 64)}, shape)
    with pytest.raises(BundleError, match=r"node make_feature: operator Sigmoid .*NumPy reference.*fly it in fp32"):
        collect(small_bundle(tmp_path, iq=other), examples())


def test_methods_are_compared_on_whole_graphs_and_examples_held_back(bundle):
    ranges = collect(bundle, examples(200))
    found = {(one.role, one.target): one for one in compare_methods(bundle, examples(200), ranges)}
    assert set(found) == {(role, target) for role in ("iq", "image") for target in ("cpu-x86", "trt")}
    for one in found.values():
        assert one.examples == 50
        assert one.logits_db[one.best] == max(one.logits_db.values())
        assert min(one.logits_db.values()) > 15
        assert all(values["mse"] >= max(values.values()) - 0.05 for values in one.tensors_db.values())


def test_the_best_method_is_the_one_whose_worst_branch_is_best():
    def comparison(**logits_db):
        return Comparison(role="iq", target="trt", examples=9, logits_db=logits_db, tensors_db={})

    one = comparison(mse=45.0, minmax=40.0, percentile=60.0, entropy=math.inf)
    other = comparison(mse=26.0, minmax=28.0, percentile=20.0, entropy=-math.inf)
    assert (one.best, other.best) == ("entropy", "minmax")
    assert best_method([one, other]) == "minmax"


def test_a_branch_with_nothing_to_quantize_is_left_out_of_the_comparison(tmp_path):
    bundle = small_bundle(tmp_path, iq=dense_branch(2, 64))
    found = list(compare_methods(bundle, examples(), collect(bundle, examples())))
    assert {one.role for one in found} == {"image"}
    assert best_method([]) == "mse"


def _node(operator, inputs, output, **attributes):
    from onnx import helper

    return helper.make_node(operator, inputs, [output], **attributes)
