"""A small bundle with a fusion head that runs, its ranges, examples and quantized graphs, for tests of judging them."""

import dataclasses

import msgspec
import torch
from small_graphs import example_arrays, small_bundle, small_spec

from calibration.examples import Examples
from calibration.export import fusion_graph
from calibration.graphs import serialize
from calibration.quantization.quantize import Variant, quantize_bundle
from calibration.quantization.ranges import collect_ranges
from models.bundle import FUSION
from models.manifest import TARGETS
from models.nets.multimodal import MultimodalNet
from models.nets.sizes import BranchSizes

EVERY = tuple(Variant(precision=precision, target=target) for precision in ("int8", "mixed") for target in TARGETS) + (
    Variant(precision="fp16", target="trt"),
)


def small_examples(count=60, seed=9):
    arrays = example_arrays(small_spec(), count, seed)
    inputs = {name: arrays[f"input_{name}"] for name in small_spec().modality_names}
    return Examples(inputs=inputs, present=arrays["present"], labels=arrays["labels"], note="made up")


def flying_bundle(folder):
    """Return FP32 graphs of two branches and of a fusion head for them."""
    torch.manual_seed(2)
    sizes = {name: BranchSizes(widths=(4,), strides=(2,)) for name in small_spec().modality_names}
    return small_bundle(folder, **{FUSION: serialize(fusion_graph(MultimodalNet(small_spec(), sizes).eval()))})


def ranges_of(bundle, method="minmax"):
    return collect_ranges(bundle, small_examples(48, seed=3), method)


def quantized(bundle, ranges, float_nodes=None):
    """Return the bundle with the graphs of every variant beside its own."""
    spared = float_nodes or {target: {"image": ["two"]} for target in TARGETS}
    made = list(quantize_bundle(bundle, ranges, EVERY, spared, ranges.method))
    graphs = (*bundle.manifest.graphs, *(one.entry for one in made))
    manifest = msgspec.structs.replace(bundle.manifest, graphs=graphs, files={})
    contents = bundle.contents | {one.entry.file: one.data for one in made}
    return dataclasses.replace(bundle, manifest=manifest, contents=contents)
