"""What a plan was built from and for: two plans with equal keys may stand for each other, others may not."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec

from edge.backends.select import PrecisionChoice, choose_graphs
from models.bundle import FUSION, WHOLE, Bundle, Precision
from models.errors import ConfigError, DeviceError
from models.spec import ModelSpec

Provider = Literal["tensorrt", "tensorrt_rtx"]
Shape = tuple[int, ...]
Profile = dict[str, tuple[Shape, Shape, Shape]]
"""By input: the smallest, the usual and the largest shape."""

SUPPORTED = {"tensorrt": ((10, 3), (12,)), "tensorrt_rtx": ((1, 7), (2,))}
"""From which version on, and below which."""
BUILDER_REVISION = 1
"""Of what calibration/plans/engine.py sets beside the options. Raise it with every change there: older plans are then
built anew. 0 stands for plans from before there were revisions."""
_ELSEWHERE = "a plan fits the GPU that it was built for and no other"
_OLD = "the software changed since"
_WHY = {
    "provider": "the two do not read each other's plans",
    "version": "no version reads another one's plans",
    "compute_capability": _ELSEWHERE,
    "gpu": _ELSEWHERE,
    "sm_count": _ELSEWHERE,
    "driver": _OLD,
    "l4t": _OLD,
    "revision": "another release of this project built it, with other fixed settings",
    "options": "it was built with other options",
    "profile": "it was built for other shapes",
    "onnx_sha256": "it was built of another graph",
}
"""Why a difference in a field of the key matters."""


class BuilderOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the builder is asked for; only what TensorRT 10.3, 10.16 and 11.4 all know. Precision is in the graph."""

    optimization_level: int = 3
    """0 to 5: how long the builder looks for fast kernels; 3 is TensorRT's own default."""
    workspace_mib: int | None = None
    """Largest scratch memory of a kernel, in MiB; all the GPU has where nothing is said."""
    timing_cache: bool = True
    """Keep what was timed for the next build; `tensorrt_rtx` times nothing when it builds."""
    profiling_verbosity: Literal["none", "layer_names_only", "detailed"] = "detailed"
    """What the plan tells of its layers; reports name precision and kernel from `detailed` alone."""

    def __post_init__(self) -> None:
        if not 0 <= self.optimization_level <= 5:
            raise ValueError(f"optimization_level is {self.optimization_level}: expected 0 to 5")
        if self.workspace_mib is not None and not 1 <= self.workspace_mib <= 1 << 20:
            raise ValueError(f"workspace_mib is {self.workspace_mib}: expected 1 to {1 << 20}")

    def as_text(self) -> str:
        """Return the options as JSON with sorted keys, as they stand in a key."""
        return msgspec.json.encode(self, order="sorted").decode()


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceFacts:
    """What a plan depends on of the machine that it is built on."""

    compute_capability: str
    """Such as 8.7."""
    gpu: str
    """The GPU's name."""
    sm_count: int
    """Its multiprocessors."""
    driver: str
    """The driver's version."""
    l4t: str
    """Release of Jetson Linux; empty elsewhere."""


def target_facts(compute_capability: str) -> DeviceFacts:
    """Return what stands in the key of a plan that is built for a kind of GPU without one at hand."""
    return DeviceFacts(compute_capability=compute_capability, gpu="any", sm_count=0, driver="any", l4t="")


@dataclass(frozen=True, kw_only=True, slots=True)
class Platform:
    """What a plan is built by, and for."""

    provider: str
    """Name of the module: `tensorrt` or `tensorrt_rtx`."""
    version: str
    """Its version, in all its parts."""
    facts: DeviceFacts


class PlanKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """All that a plan depends on."""

    onnx_sha256: str
    provider: Provider
    version: str
    """Of the provider, in all its parts."""
    compute_capability: str
    gpu: str
    sm_count: int
    driver: str
    l4t: str
    options: str
    """As `BuilderOptions.as_text` gives them."""
    profile: Profile
    revision: int = 0
    """Of the builder's fixed settings: see `BUILDER_REVISION`."""

    @property
    def name(self) -> str:
        """What the plan's files are called by: hexadecimal, of everything in the key."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A field in which a cached plan is not what this machine needs."""

    field: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected}, found {self.found} ({_WHY[self.field]})"


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedPlan:
    """A graph of a bundle, and the key that its plan has on a platform."""

    role: str
    precision: Precision
    title: str
    """What to call it: bundle, role and precision."""
    graph: bytes
    key: PlanKey


def wanted_plans(
    bundle: Bundle, choice: PrecisionChoice, platform: Platform, options: BuilderOptions, roles: tuple[str, ...] = ()
) -> list[WantedPlan]:
    """Return the graphs of a bundle that fly on TensorRT, each in the precision that flies: to build, and to fly.

    Args:
        bundle: whose graphs; those made for TensorRT, or for any target.
        choice: as `precision` of a deployment: auto takes what is approved for TensorRT.
        platform: that builds, and for which.
        options: of the builder.
        roles: modalities, `fusion`, `whole`; empty for all that fly.
    Raises:
        ConfigError: there is no such role.
        BundleError: there is no graph in that precision.
        DeviceError: this version is not supported.
    """
    flying = choose_graphs(bundle, choice, "trt")
    strangers = sorted(set(roles) - {*flying, WHOLE})
    if strangers:
        raise ConfigError(f"role {' '.join(strangers)}: expected {', '.join(flying)} or {WHOLE}")
    wanted = []
    for role in dict.fromkeys(roles or flying):
        precision = flying.get(role, "fp32")
        graph = bundle.graph(role, precision, "trt")
        key = plan_key(graph, platform, options, profile_of(bundle.spec, role))
        title = f"{bundle.manifest.title}.{role}.{precision}"
        wanted.append(WantedPlan(role=role, precision=precision, title=title, graph=graph, key=key))
    return wanted


def plan_key(graph: bytes, platform: Platform, options: BuilderOptions, profile: Profile) -> PlanKey:
    """Return the key of a graph's plan.

    Args:
        graph: the ONNX file's bytes.
        platform: that builds, and for which.
        options: of the builder.
        profile: see `profile_of`.
    Raises:
        DeviceError: there is no such provider, or it is older or newer than supported.
    """
    check_supported(platform.provider, platform.version)
    facts = platform.facts
    return PlanKey(
        onnx_sha256=hashlib.sha256(graph).hexdigest(),
        provider=platform.provider,  # type: ignore[arg-type]
        version=platform.version,
        compute_capability=facts.compute_capability,
        gpu=facts.gpu,
        sm_count=facts.sm_count,
        driver=facts.driver,
        l4t=facts.l4t,
        options=options.as_text(),
        profile=profile,
        revision=BUILDER_REVISION,
    )


def check_supported(provider: str, version: str) -> None:
    """Raise DeviceError where a provider is not one whose interface this project is written for."""
    if provider not in get_args(Provider):
        raise DeviceError(f"provider {provider!r}: expected {' or '.join(get_args(Provider))}")
    least, below = SUPPORTED[provider]
    parts = tuple(int(part) for part in version.split(".") if part.isdigit())
    if not least <= parts < below:
        expected = f"{'.'.join(map(str, least))} or newer, below {'.'.join(map(str, below))}"
        remedy = (
            "install JetPack 6.2 or 7.2, which bring such a one"
            if provider == "tensorrt"
            else "pip install 'uav-fusion-edge[trt-check]'"
        )
        raise DeviceError(f"{provider}: expected version {expected}, found {version}: {remedy}")


def profile_of(spec: ModelSpec, role: str) -> Profile:
    """Return the shapes of a graph's inputs in flight, one example at a time: smallest, usual and largest are one.

    Args:
        spec: of the model.
        role: a modality's name, `fusion` or `whole`.
    """
    shapes: dict[str, Shape] = {}
    if role == FUSION:
        for one in spec.modalities:
            shapes[f"feature_{one.name}"] = (1, one.feature_size)
            shapes[f"logits_{one.name}"] = (1, len(spec.classes))
    elif role == WHOLE:
        shapes = {f"input_{one.name}": (1, *one.recipe.input_shape) for one in spec.modalities}
    else:
        shapes = {"input": (1, *spec.modality(role).recipe.input_shape)}
    if role in (FUSION, WHOLE):
        shapes["mask"] = (1, len(spec.modalities))
    return {name: (shape, shape, shape) for name, shape in shapes.items()}


def differences(expected: PlanKey, found: PlanKey) -> list[Difference]:
    """Return the fields in which two keys differ, options one by one."""
    every: list[Difference] = []
    for field in PlanKey.__struct_fields__:
        wanted, there = getattr(expected, field), getattr(found, field)
        if wanted == there:
            continue
        if field in ("options", "profile"):
            wanted, there = _unequal_parts(_as_mapping(wanted), _as_mapping(there))
        every.append(Difference(field=field, expected=_shown(wanted), found=_shown(there)))
    return every


def _as_mapping(value: Any) -> dict[str, Any]:
    """Return options or a profile by name; text that is no such JSON under a name of its own."""
    if isinstance(value, dict):
        return value
    try:
        told = json.loads(value)
    except ValueError:
        return {"text": value}
    return told if isinstance(told, dict) else {"text": value}


def _unequal_parts(wanted: dict[str, Any], there: dict[str, Any]) -> tuple[str, str]:
    names = sorted(name for name in {*wanted, *there} if wanted.get(name) != there.get(name))
    return tuple(  # type: ignore[return-value]
        ", ".join(f"{name} {json.dumps(one.get(name))}" for name in names) for one in (wanted, there)
    )


def _shown(value: object) -> str:
    text = str(value)
    return (text[:12] + "…" if len(text) == 64 else text) or "nothing"
