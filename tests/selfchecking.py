"""A device to check that is none: a fake GPU, plans that are their graphs, a flight that nobody flies."""

import dataclasses
import functools
from pathlib import Path

import msgspec
import numpy as np
from boards import make_board
from fake_gpu import Gpu as FakeGpu
from fake_tensorrt import Model, onnx_model

from edge.backends.plan_key import BuilderOptions, DeviceFacts, Platform, wanted_plans
from edge.backends.planned import PlanChoice
from edge.backends.plans import PlanCache
from edge.operations.board import read_board
from edge.operations.flown import Flown
from edge.selfcheck.device import Asked
from edge.selfcheck.gpu import Found, Gpu
from edge.selfcheck.line import Line
from edge.transport.truths import TruthTimeline
from models.bundle import Bundle, GraphEntry

ROLES = ("iq", "image", "fusion")
ORIN = DeviceFacts(compute_capability="8.7", gpu="Orin", sm_count=16, driver="540.4.0", l4t="36.4.3")
PLATFORM = Platform(provider="tensorrt", version="10.3.0.30", facts=ORIN)


def with_precision(bundle: Bundle, precision: str) -> Bundle:
    """Return the bundle with graphs of another precision for TensorRT, which are no graphs; the fake knows them."""
    roles = ROLES[:2]
    entries = tuple(
        GraphEntry(role=role, precision=precision, target="trt", batch="one", file=f"onnx/{role}.{precision}-trt.onnx")
        for role in roles
    )
    contents = {entry.file: f"{entry.role} {precision}".encode() for entry in entries}
    manifest = msgspec.structs.replace(bundle.manifest, graphs=(*bundle.manifest.graphs, *entries))
    return dataclasses.replace(bundle, manifest=manifest, contents={**bundle.contents, **contents})


def rounded(model: Model, error: float) -> Model:
    """Return a model whose logits are off by as much, upwards and downwards in turn."""

    def compute(inputs):
        outputs = {name: np.array(value) for name, value in model.compute(inputs).items()}
        outputs["logits"] += error * (-1.0) ** np.arange(outputs["logits"].size).reshape(outputs["logits"].shape)
        return outputs

    return dataclasses.replace(model, compute=compute)


@functools.cache
def model_of(graph: bytes) -> Model:
    """Return a graph as a model, made once."""
    return onnx_model(graph)


def fake_gpu(bundle: Bundle, precision: str = "", error: float = 0.0) -> FakeGpu:
    """Return a GPU that computes the bundle's graphs, those of a precision with an error."""
    models = {bundle.graph(role): model_of(bundle.graph(role)) for role in ROLES}
    if precision:
        models |= {f"{role} {precision}".encode(): rounded(models[bundle.graph(role)], error) for role in ROLES[:2]}
    return FakeGpu(models)


def store_plans(choice: PlanChoice) -> str:
    """Build the plans of a choice: each is the graph that it is made of."""
    cache = PlanCache(choice.folder)
    for wanted in wanted_plans(choice.bundle, choice.precision, PLATFORM, BuilderOptions()):
        cache.store(wanted.key, wanted.graph, wanted.title)
    return ""


def found(fake: FakeGpu, platform: Platform = PLATFORM) -> Found:
    """Return a search that found the fake."""
    gpu = Gpu(trt=fake.tensorrt, pycuda=fake.driver, libcuda=fake.libcuda, platform=platform)
    return Found(gpu=gpu, lines=[Line(name="GPU", status="ok", expected="one", found="Fake GPU")])


def flown_as_asked(recording, bundle, options, beside) -> Flown:
    """Fly nothing, and say that the engines that were asked for flew."""
    beside()
    return Flown(
        title="none", model="none", labels=(), answers=[], truths=TruthTimeline(), streams={}, backend=options.backend
    )


def asked_of(bundle: Bundle, fake: FakeGpu, folder: Path, **changes) -> Asked:
    """Return what checks a fake device, without a flight."""
    choice = PlanChoice(bundle=bundle, precision="auto", folder=folder / "plans", options=None)
    root = make_board(folder / "board", {})
    keys = {
        "choice": choice,
        "seconds": 0.0,
        "build": store_plans,
        "find": lambda: found(fake),
        "look": lambda: read_board(root, lambda words: None),
    }
    return Asked(**{**keys, **changes})
