import hashlib

import msgspec
import pytest

from edge.backends.plan_key import (
    BuilderOptions,
    DeviceFacts,
    Platform,
    differences,
    plan_key,
    profile_of,
    target_facts,
    wanted_plans,
)
from edge.backends.plans import PlanConfig
from models.bundle import open_bundle, shipped_bundle
from models.errors import ConfigError, DeviceError
from models.schema import parse_yaml

ORIN = DeviceFacts(compute_capability="8.7", gpu="Orin", sm_count=16, driver="540.4.0", l4t="36.4.3")
SHAPE = ((1, 2, 64), (1, 2, 64), (1, 2, 64))


def on(version, provider="tensorrt", facts=ORIN):
    return Platform(provider=provider, version=version, facts=facts)


def key_of(options=None, facts=ORIN):
    return plan_key(b"graph", on("10.3.0.26", facts=facts), options or BuilderOptions(), {"input": SHAPE})


KEY = key_of()


def test_of_options_only_those_that_changed_are_named():
    (found,) = differences(KEY, key_of(options=BuilderOptions(optimization_level=5, timing_cache=False)))
    assert (found.expected, found.found) == (
        "optimization_level 3, timing_cache true",
        "optimization_level 5, timing_cache false",
    )


def test_options_of_a_sidecar_that_are_no_json_are_shown_as_they_are():
    (found,) = differences(KEY, msgspec.structs.replace(KEY, options="-O3"))
    assert '"-O3"' in found.found


@pytest.mark.parametrize(
    ("provider", "version", "expected"),
    [
        ("tensorrt", "8.6.2.3", r"10\.3 or newer, below 12, found 8\.6\.2\.3: install JetPack"),
        ("tensorrt", "10.2.0", r"found 10\.2\.0"),
        ("tensorrt", "12.0.0.1", r"found 12\.0\.0\.1"),
        ("tensorrt", "unknown", "found unknown"),
        ("tensorrt_rtx", "1.0.0.21", r"1\.7 or newer, below 2, found 1\.0\.0\.21: pip install"),
        ("openvino", "2026.4", "expected tensorrt or tensorrt_rtx"),
    ],
)
def test_a_version_that_is_not_supported_is_named_with_a_remedy(provider, version, expected):
    with pytest.raises(DeviceError, match=expected):
        plan_key(b"graph", on(version, provider), BuilderOptions(), {"input": SHAPE})


@pytest.mark.parametrize("version", ["10.3.0", "10.3.0.26", "10.16.2.10", "11.4.1.3"])
def test_what_jetpack_brings_is_supported(version):
    assert plan_key(b"graph", on(version), BuilderOptions(), {}).version == version


def test_the_shapes_of_a_profile_are_those_of_the_graphs_inputs_in_flight():
    spec = open_bundle(shipped_bundle()).spec
    assert profile_of(spec, "iq") == {"input": ((1, 2, 4096),) * 3}
    assert profile_of(spec, "fusion")["feature_image"] == ((1, 64),) * 3
    assert profile_of(spec, "fusion")["logits_iq"] == ((1, 8),) * 3
    assert set(profile_of(spec, "whole")) == {"input_iq", "input_image", "mask"}


def test_all_that_flies_is_wanted_in_the_precision_that_flies():
    bundle = open_bundle(shipped_bundle())
    wanted = wanted_plans(bundle, "auto", on("10.3.0.26"), BuilderOptions())
    assert [one.title for one in wanted] == ["demo-1.iq.fp32", "demo-1.image.fp32", "demo-1.fusion.fp32"]
    assert [one.key.onnx_sha256 for one in wanted] == [hashlib.sha256(one.graph).hexdigest() for one in wanted]
    assert wanted[2].key.profile == profile_of(bundle.spec, "fusion")


def test_a_plan_for_a_kind_of_gpu_is_not_taken_for_one_of_this_gpu():
    assert key_of(facts=target_facts("8.7")) != KEY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("builder: {optimization_level: 6}", "optimization_level is 6: expected 0 to 5"),
        ("builder: {workspace_mib: 0}", "workspace_mib is 0"),
        ("builder: {fp16: true}", "fp16"),
        ("builder: {profiling_verbosity: loud}", "profiling_verbosity"),
        ("cache: {plans: 0}", "plans is 0"),
    ],
)
def test_an_option_that_cannot_be_is_named(text, expected):
    with pytest.raises(ConfigError, match=expected):
        parse_yaml(text.encode(), PlanConfig, "plan.yaml")
