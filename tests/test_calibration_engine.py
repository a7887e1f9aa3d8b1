import sys
from types import SimpleNamespace

import breaking
import pytest
from drawing import float_network, quantized_network

from calibration.cli import main
from calibration.plans import engine
from models.errors import BundleError, DeviceError


@pytest.fixture(scope="module")
def trt():
    return pytest.importorskip(
        "tensorrt_rtx", reason="needs NVIDIA's builder: pip install 'uav-fusion-edge[trt-check]'"
    )


def broken(change):
    model = quantized_network()
    change(model, lambda places: places[0])
    return model.SerializeToString()


def any_batch():
    model = float_network()
    for one in (*model.graph.input, *model.graph.output):
        one.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model.SerializeToString()


def test_tensorrt_is_taken_before_its_desktop_edition(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__name__="tensorrt"))
    assert engine.load_builder().__name__ == "tensorrt"


def test_the_desktop_edition_serves_where_tensorrt_is_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", SimpleNamespace(__name__="tensorrt_rtx"))
    assert engine.load_builder().__name__ == "tensorrt_rtx"


def test_without_either_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(DeviceError, match=r"JetPack.*uav-fusion-edge\[trt-check\]"):
        engine.load_builder()


class WithoutGpu:
    """A `tensorrt` as it is on a machine without a GPU."""

    class ILogger:
        Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2)

    @staticmethod
    def Builder(logger):  # noqa: N802
        logger.log(2, "a warning")
        logger.log(1, "CUDA initialization\nfailure with error: 35")
        raise TypeError("factory function returned nullptr")


WithoutGpu.__name__ = "tensorrt"


def test_a_machine_without_a_gpu_is_named_as_the_reason():
    with pytest.raises(DeviceError, match=r"nullptr\): CUDA initialization failure with error: 35$"):
        engine.parse(WithoutGpu, b"")


def test_the_parser_has_nothing_against_a_legal_graph(trt):
    assert engine.parse(trt, quantized_network().SerializeToString()) == []


def test_the_parser_names_the_node_in_one_line(trt):
    (problem,) = engine.parse(trt, broken(breaking.zero_point_of_activation(3)))
    assert problem.startswith("QuantizeLinear quantizelinear_0: ")
    assert "Non-zero zero point" in problem
    assert "\n" not in problem


def test_bytes_that_are_no_graph_are_a_problem(trt):
    assert engine.parse(trt, b"not a graph")


def test_problems_of_one_graph_are_not_told_of_the_next(trt):
    assert engine.parse(trt, broken(breaking.two_float_types))
    assert engine.parse(trt, float_network().SerializeToString()) == []


def test_a_plan_is_bytes_and_the_same_twice(trt):
    graph = quantized_network().SerializeToString()
    plan = engine.build(trt, graph)
    assert len(plan) > len(graph)
    assert engine.build(trt, graph) == plan


def test_a_graph_for_any_batch_gets_a_plan(trt):
    assert len(engine.build(trt, any_batch())) > 0


def test_a_graph_that_the_parser_refuses_gets_no_plan(trt):
    with pytest.raises(BundleError, match=r"cannot read the graph: QuantizeLinear quantizelinear_0"):
        engine.build(trt, broken(breaking.zero_point_of_activation(3)))


def test_a_graph_that_the_builder_refuses_gets_no_plan(trt):
    model = float_network()
    breaking.computed_shape(model, lambda places: places[0])
    with pytest.raises(BundleError, match=r"builds no plan: .*Optimization profile"):
        engine.build(trt, model.SerializeToString())


def test_the_command_asks_the_parser_where_our_rules_are_kept(trt, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    legal, illegal = tmp_path / "legal.onnx", tmp_path / "illegal.onnx"
    legal.write_bytes(quantized_network().SerializeToString())
    illegal.write_bytes(broken(breaking.scale_from_data))  # it would take this process down
    assert main(["check", str(legal), "--parser"]) == 0
    assert f"0 warnings, built by tensorrt_rtx {trt.__version__}" in capsys.readouterr().out
    assert main(["check", str(illegal), "--parser"]) == 1


@pytest.mark.parametrize(
    ("name", "answer"), [("nvidia-parser", {"parse": lambda trt, graph: ["Conv c: no"]}), ("nvidia-builder", {})]
)
def test_what_nvidia_refuses_and_our_rules_do_not_is_an_error_too(tmp_path, capsys, monkeypatch, name, answer):
    def build(trt, graph):
        raise BundleError("builds no plan: no kernel")

    monkeypatch.setattr(engine, "load_builder", lambda: SimpleNamespace(__name__="tensorrt", __version__="10.3.0"))
    for function, fake in {"parse": lambda trt, graph: [], "build": build, **answer}.items():
        monkeypatch.setattr(engine, function, fake)
    path = tmp_path / "a.onnx"
    path.write_bytes(float_network().SerializeToString())
    assert main(["check", str(path), "--parser"]) == 1
    assert f"error  {name}  graph  " in capsys.readouterr().out
