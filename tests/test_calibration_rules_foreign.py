"""The rules judge graphs of another quantizer as NVIDIA's parser does: ONNX Runtime's, with and without its options."""

import warnings

import numpy as np
import onnx
import pytest

from calibration.plans import engine
from calibration.rules import check_graph
from models.bundle import open_bundle, shipped_bundle

SHAPES = {"iq": (1, 2, 4096), "image": (1, 3, 72, 96)}
SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
FOR_TENSORRT = {**SYMMETRIC, "OpTypesToExcludeOutputQuantization": ["Conv", "Gemm", "MatMul", "Add"]}


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """Return a function that quantizes a shipped branch with ONNX Runtime."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    folder = tmp_path_factory.mktemp("foreign")
    bundle = open_bundle(shipped_bundle())

    def quantize(role, **options):
        source, target = folder / f"{role}.onnx", folder / f"{role}.int8.onnx"
        source.write_bytes(bundle.graph(role))
        rng = np.random.default_rng(1)
        examples = iter([{"input": rng.normal(size=SHAPES[role]).astype(np.float32)} for _ in range(2)])
        reader = type("Reader", (quantization.CalibrationDataReader,), {"get_next": lambda self: next(examples, None)})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantization.quantize_static(source, target, reader(), **options)
        return onnx.load(target)

    return quantize


def rules_broken(model):
    return {violation.rule for violation in check_graph(model)}


@pytest.mark.parametrize("role", SHAPES)
def test_its_defaults_are_refused(quantized, role):
    model = quantized(role)
    assert rules_broken(model) == {"zero-point", "quantized-bias", "per-tensor-weights"}


@pytest.mark.parametrize("role", SHAPES)
def test_with_symmetric_numbers_it_still_splits_what_tensorrt_merges(quantized, role):
    assert rules_broken(quantized(role, per_channel=True, extra_options=SYMMETRIC)) == {"split-fusion"}


@pytest.mark.parametrize("role", SHAPES)
def test_with_options_for_tensorrt_it_breaks_no_rule(quantized, role):
    assert rules_broken(quantized(role, per_channel=True, extra_options=FOR_TENSORRT)) == set()


def test_nvidia_agrees(quantized):
    reason = "needs tensorrt-rtx: pip install 'uav-fusion-edge[trt-check]'"
    trt = pytest.importorskip("tensorrt_rtx", reason=reason)
    legal = quantized("iq", per_channel=True, extra_options=FOR_TENSORRT)
    assert "Int32" in engine.parse(trt, quantized("iq").SerializeToString())[0]
    assert engine.parse(trt, legal.SerializeToString()) == []
    assert len(engine.build(trt, legal.SerializeToString())) > 0
