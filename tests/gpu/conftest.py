"""A real GPU, a bundle with graphs of every precision, and their plans; without one of them the tests are skipped."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from edge.backends.planned import PlanChoice
from edge.backends.session import Plans
from edge.selfcheck import planning
from edge.selfcheck.gpu import Gpu, find_gpu
from edge.selfcheck.parity import Answers, Examples, examples_of, reference
from models.bundle import Bundle, open_bundle, shipped_bundle, write_bundle


@pytest.fixture(scope="session")
def gpu() -> Gpu:
    """The GPU of this machine."""
    found = find_gpu()
    if found.gpu is None:
        lacking = ", ".join(line.name for line in found.lines if line.status == "failed")
        pytest.skip(f"needs an NVIDIA GPU with TensorRT (or that for RTX) and pycuda; not found: {lacking}")
    return found.gpu


@pytest.fixture(scope="session")
def bundle(gpu: Gpu, tmp_path_factory) -> Bundle:
    """The shipped model with FP16 and INT8 for TensorRT, calibrated on variants of its golden examples."""
    pytest.importorskip(
        "onnx", reason="quantizing the shipped model needs onnx: pip install 'uav-fusion-edge[quantize]'"
    )
    from calibration.examples import Examples as Calibrating
    from calibration.quantization.quantize import Variant, quantize_bundle
    from calibration.quantization.ranges import collect_ranges

    shipped = open_bundle(shipped_bundle())
    asked = examples_of(shipped, variants=60)
    labels = reference(shipped, asked)["fusion"].argmax(axis=1)
    calibrating = Calibrating(inputs=asked.inputs, present=asked.masks, labels=labels, note="variants")
    variants = [Variant(precision=precision, target="trt") for precision in ("fp16", "int8")]
    made = list(quantize_bundle(shipped, collect_ranges(shipped, calibrating, "mse"), variants, {}, "mse"))
    manifest = msgspec.structs.replace(
        shipped.manifest, graphs=(*shipped.manifest.graphs, *(one.entry for one in made)), files={}
    )
    contents = shipped.contents | {one.entry.file: one.data for one in made}
    return open_bundle(write_bundle(tmp_path_factory.mktemp("bundles"), manifest, contents))


@pytest.fixture(scope="session")
def plan_folder(tmp_path_factory) -> Iterator[Path]:
    """The folder of plans that all tests share."""
    folder = tmp_path_factory.mktemp("cache") / "plans"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def plans_of(gpu: Gpu, bundle: Bundle, plan_folder: Path) -> Callable[[str], Plans]:
    """Return the plans of a precision, built where they are missing."""
    choice = PlanChoice(bundle=bundle, precision="auto", folder=plan_folder, options=None)

    def plans(precision) -> Plans:
        planned = planning.plan(choice, precision, gpu.platform, planning.build_with_calibrate)
        assert planned.plans is not None, str(planned.line)
        return dataclasses.replace(planned.plans, by_role=dict(planned.plans.by_role))

    return plans


@pytest.fixture(scope="session")
def examples(bundle: Bundle) -> Examples:
    """What the graphs are asked."""
    return examples_of(bundle)


@pytest.fixture(scope="session")
def expected(bundle: Bundle, examples: Examples) -> Answers:
    """What FP32 answers on ONNX Runtime."""
    return reference(bundle, examples)
