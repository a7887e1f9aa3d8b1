"""Which graphs fly: by the machine, by what the bundle approves, by what the user asks for."""

import argparse
import dataclasses
import typing

import msgspec
import pytest

from edge.backends.select import PrecisionChoice, choose_graphs, cpu_target
from edge.commands import bench, demo, replay
from edge.config import PipelineConfig
from models.bundle import FUSION, GraphEntry, open_bundle, shipped_bundle
from models.errors import BundleError


@pytest.fixture(scope="module")
def bundle():
    """Return the shipped bundle with entries for INT8 graphs of one branch, and another for each kind of processor."""
    shipped = open_bundle(shipped_bundle())
    kinds = [("iq", "int8", "cpu-x86"), ("image", "int8", "cpu-arm"), ("iq", "fp16", "any"), (FUSION, "fp16", "trt")]
    more = [GraphEntry(role=r, precision=p, target=t, file=f"onnx/{r}.{p}-{t}.onnx") for r, p, t in kinds]
    approved = {"cpu-x86": {"iq": "int8"}, "cpu-arm": {"image": "int8", "iq": "fp16"}}
    manifest = msgspec.structs.replace(shipped.manifest, graphs=(*shipped.manifest.graphs, *more), approved=approved)
    return dataclasses.replace(shipped, manifest=manifest)


@pytest.mark.parametrize(
    ("machine", "target"),
    [("x86_64", "cpu-x86"), ("AMD64", "cpu-x86"), ("aarch64", "cpu-arm"), ("arm64", "cpu-arm"), ("riscv64", "any")],
)
def test_a_machine_is_of_a_kind_by_its_name(machine, target):
    assert cpu_target(machine) == target


@pytest.mark.parametrize(
    ("choice", "target", "expected"),
    [
        ("auto", "cpu-x86", {"iq": "int8", "image": "fp32", FUSION: "fp32"}),
        ("auto", "cpu-arm", {"iq": "fp16", "image": "int8", FUSION: "fp32"}),
        ("auto", "any", {"iq": "fp32", "image": "fp32", FUSION: "fp32"}),
        ("fp32", "cpu-x86", {"iq": "fp32", "image": "fp32", FUSION: "fp32"}),
        ("int8", "cpu-x86", {"iq": "int8", "image": "fp32", FUSION: "fp32"}),
        ("int8", "cpu-arm", {"iq": "fp32", "image": "int8", FUSION: "fp32"}),
        ("fp16", "cpu-x86", {"iq": "fp16", "image": "fp32", FUSION: "fp32"}),
    ],
)
def test_what_is_approved_or_asked_for_flies_and_fp32_otherwise(bundle, choice, target, expected):
    assert choose_graphs(bundle, choice, target) == expected


@pytest.mark.parametrize(("choice", "target"), [("int8", "any"), ("mixed", "cpu-x86")])
def test_a_precision_without_a_single_graph_is_refused_with_the_remedy(bundle, choice, target):
    with pytest.raises(BundleError, match=f"no graph in {choice} for {target} .*uav-calibrate quantize"):
        choose_graphs(bundle, choice, target)


def test_a_bundle_of_old_flies_in_fp32():
    shipped = open_bundle(shipped_bundle())
    assert set(choose_graphs(shipped, "auto", "cpu-x86").values()) == {"fp32"}


@pytest.mark.parametrize("command", [bench, demo, replay])
def test_the_command_line_offers_what_a_deployment_may_say(command):
    parser = argparse.ArgumentParser()
    command.configure(parser)
    option = next(action for action in parser._actions if action.dest == "precision")
    assert tuple(option.choices) == typing.get_args(PrecisionChoice)
    assert option.default == PipelineConfig().precision == "auto"
