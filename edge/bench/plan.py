"""Which scenarios are measured, of which paths, and for how long."""

from dataclasses import dataclass, replace
from typing import Literal

from edge.bench.feed import Feed
from edge.bench.handover import block_count as block_count_of_handover
from edge.bench.ingest import INGEST, MESSAGE_RATE_HZ, RATES_MS_PER_S, samples_at
from edge.bench.latency import block_count
from edge.bench.result import Absent
from edge.transport.ring import FOLDER, free_bytes
from models.bundle import Bundle
from models.errors import ConfigError
from models.spec import ImageRecipe, IqRecipe, ModalitySpec

SCENARIOS = ("single", "multi", "paced", "offline", "overload", "ingest", "handover")
TIMED = frozenset({"single", "multi", "paced"})
"""Those that keep the answers behind their figures."""
OVERLOAD_FACTORS = (1.5, 3.0)
RADIO_RATE_HZ = 100.0
CAMERA_RATE_HZ = 30.0
WIDE_RATE_MS_PER_S = 6.55
"""Million samples a second of the path `iq-wide`, which has as many windows a second as `iq`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """How long each scenario is measured, in seconds, and how fast the camera is."""

    paced_s: dict[str, float]
    """By path."""
    closed_s: float
    """Of `single` and `multi`, each path."""
    offline_s: float
    overload_s: float
    ingest_s: float
    """At each rate."""
    handover_s: float
    """Of each way."""
    idle_s: float
    contest_s: float
    """Of each contender on each path."""
    camera_rate_hz: float = CAMERA_RATE_HZ
    overloads: tuple[float, ...] = OVERLOAD_FACTORS
    """Factors of the maximum."""


_CAMERA_FEEDS: tuple[tuple[str, Literal["raw", "jpeg"]], ...] = (("image", "raw"), ("jpeg", "jpeg"))
PATHS = ("iq", "iq-wide", "image", "jpeg", "both")
IMAGE_SHM = "image-shm"
"""Raw frames through shared memory, as docs/transport.md wants them: more of them than a socket passes on."""
QUICK = Lengths(
    paced_s={"iq": 6.8, "iq-wide": 1.0, "image": 2.4, "jpeg": 1.2, "both": 2.4},
    closed_s=0.6,
    offline_s=0.4,
    overload_s=0.8,
    ingest_s=0.3,
    handover_s=0.6,
    idle_s=0.5,
    contest_s=4.0,
    camera_rate_hz=60.0,
    overloads=OVERLOAD_FACTORS[-1:],
)
"""All scenarios within a minute: samples for a p99 of the radio, for a p90 of the camera, which is twice as fast as is
usual."""


def full_lengths(seconds: float) -> Lengths:
    """Return the same time for every path and scenario but the sweep and the search for the maximum."""
    return Lengths(
        paced_s=dict.fromkeys(PATHS, seconds),
        closed_s=seconds,
        offline_s=min(seconds, 5.0),
        overload_s=seconds,
        ingest_s=min(seconds, 5.0),
        handover_s=min(seconds, 30.0),
        idle_s=min(seconds, 5.0),
        contest_s=min(seconds, 30.0),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class RigPlan:
    """What is measured on one pipeline."""

    name: str
    feeds: tuple[Feed, ...]
    """Their folder is not known yet."""
    paths: tuple[str, ...]
    """Of the paced scenario: each the name of a feed, or `both` for all of them."""
    others: tuple[str, ...]
    """Of the other scenarios."""
    takes_ingest: bool = False

    def feeds_in(self, folder: str) -> tuple[Feed, ...]:
        """Return the feeds with their sockets in a folder."""
        return tuple(replace(feed, folder=folder) for feed in self.feeds)

    def names_of(self, path: str) -> tuple[str, ...]:
        """Return the feeds of a path; the first one causes the answers."""
        return (path,) if path in {feed.name for feed in self.feeds} else tuple(feed.name for feed in self.feeds)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything that is measured in one run."""

    scenarios: frozenset[str]
    lengths: Lengths
    rigs: tuple[RigPlan, ...]
    camera: ModalitySpec
    """Takes the frames that are handed over."""
    absent: tuple[Absent, ...] = ()
    """What this machine cannot measure."""

    def scenarios_of(self, rig: RigPlan) -> tuple[str, ...]:
        """Return which scenarios a rig is measured in."""
        fitting = {"both": {"paced", "multi"}, IMAGE_SHM: {"offline", "overload"}}.get(
            rig.name, {"single", "paced", "offline", "overload"}
        )
        fitting |= {"ingest"} if rig.takes_ingest else set()
        wanted = fitting & self.scenarios
        return tuple(name for name in SCENARIOS if name in wanted)

    @property
    def ticks(self) -> int:
        """Blocks, for a progress bar."""
        handed = block_count_of_handover(self.lengths.handover_s) if "handover" in self.scenarios else 0
        return handed + sum(self._ticks_of(rig, name) for rig in self.rigs for name in self.scenarios_of(rig))

    def paths_of(self, rig: RigPlan, scenario: str) -> tuple[str, ...]:
        """Return what a rig is measured with in a scenario."""
        return rig.paths if scenario == "paced" else rig.others

    def _ticks_of(self, rig: RigPlan, scenario: str) -> int:
        if scenario == "ingest":
            return len(RATES_MS_PER_S)
        if scenario == "paced":
            return sum(block_count(self.lengths.paced_s[path]) for path in rig.paths)
        if scenario in ("single", "multi"):
            return len(rig.others) * block_count(self.lengths.closed_s)
        return len(rig.others) * (1 if scenario == "offline" else len(self.lengths.overloads))


def parse_scenarios(text: str) -> frozenset[str]:
    """Return the scenarios that are named, with commas between.

    Raises:
        ConfigError: one is unknown.
    """
    names = [name.strip() for name in text.split(",")]
    unknown = sorted(set(names) - set(SCENARIOS))
    if unknown:
        raise ConfigError(f"--scenario {text}: unknown {unknown[0]!r}: choose of {', '.join(SCENARIOS)}")
    return frozenset(names)


def make_plan(
    bundle: Bundle,
    scenarios: frozenset[str],
    lengths: Lengths,
    transport: Literal["socket", "shm"] = "socket",
    *,
    rehearses: bool = False,
) -> Plan:
    """Return what to measure of a model's first radio and first camera.

    Args:
        bundle: with the model.
        scenarios: of SCENARIOS.
        lengths: how long each.
        transport: how messages come to the pipeline.
        rehearses: whether the pipeline computes once more just before a message is due.
    Raises:
        ConfigError: the model lacks one of the two.
    """
    image, iq = _first(bundle, ImageRecipe), _first(bundle, IqRecipe)
    camera_hz = lengths.camera_rate_hz
    camera = tuple(
        Feed(name=name, modality=image, rate_hz=camera_hz, folder="", payload=payload)
        for name, payload in _CAMERA_FEEDS
    )
    takes_ingest = "ingest" in scenarios
    radio = (_radio("iq", iq, _window_samples(iq)), _radio("iq-wide", iq, samples_at(WIDE_RATE_MS_PER_S)))
    widest = (_radio(INGEST, iq, samples_at(max(RATES_MS_PER_S))),) if takes_ingest else ()
    usual = replace(camera[0], rate_hz=CAMERA_RATE_HZ)
    rigs = (
        RigPlan(name="iq", feeds=(*radio, *widest), paths=("iq", "iq-wide"), others=("iq",), takes_ingest=takes_ingest),
        RigPlan(name="image", feeds=camera, paths=("image", "jpeg"), others=("image", "jpeg")),
        RigPlan(name="both", feeds=(usual, radio[0]), paths=("both",), others=("both",)),
    )
    deployed = [_deployed(rig, transport, rehearses) for rig in rigs]
    absent: tuple[Absent, ...] = ()
    if transport == "socket" and "overload" in scenarios:
        shared = replace(deployed[1].feeds[0], name=IMAGE_SHM, transport="shm")
        if _has_room(shared):
            deployed.insert(2, RigPlan(name=IMAGE_SHM, feeds=(shared,), paths=(), others=(IMAGE_SHM,)))
        else:
            absent = (Absent(name=IMAGE_SHM, remedy=f"make room in {FOLDER} (docker run --shm-size=1g)"),)
    plan = Plan(scenarios=scenarios, lengths=lengths, camera=image, rigs=tuple(deployed), absent=absent)
    return replace(plan, rigs=tuple(rig for rig in plan.rigs if plan.scenarios_of(rig)))


def contested_feeds(bundle: Bundle, lengths: Lengths) -> tuple[Feed, ...]:
    """Return the messages that backends are compared on: the radio's, and raw frames.

    Raises:
        ConfigError: as `make_plan`.
    """
    rigs = make_plan(bundle, frozenset({"single"}), lengths).rigs
    return tuple(rig.feeds[0] for rig in rigs)


def _deployed(rig: RigPlan, transport: Literal["socket", "shm"], rehearses: bool) -> RigPlan:
    return replace(rig, feeds=tuple(replace(feed, transport=transport, rehearses=rehearses) for feed in rig.feeds))


def _has_room(feed: Feed) -> bool:
    """Whether a feed's ring fits into shared memory, where there is any."""
    try:
        return free_bytes() > (feed.stream.ring_slots + 1) * feed.stream.max_message_bytes
    except OSError:
        return False


def _radio(name: str, modality: ModalitySpec, samples: int) -> Feed:
    recipe = modality.recipe
    least = recipe.window_samples if isinstance(recipe, IqRecipe) else 0
    return Feed(
        name=name,
        modality=modality,
        rate_hz=MESSAGE_RATE_HZ if name == INGEST else RADIO_RATE_HZ,
        folder="",
        payload="iq",
        samples=max(samples, least),
    )


def _window_samples(modality: ModalitySpec) -> int:
    """Return the samples of a message that holds all that the model's own rate gives."""
    recipe = modality.recipe
    return round(recipe.sample_rate_hz / RADIO_RATE_HZ) if isinstance(recipe, IqRecipe) else 0


def _first(bundle: Bundle, kind: type[ImageRecipe] | type[IqRecipe]) -> ModalitySpec:
    for modality in bundle.spec.modalities:
        if isinstance(modality.recipe, kind):
            return modality
    raise ConfigError(
        f"{bundle.path}: no modality with a recipe of kind {kind.__struct_config__.tag}: bench wants a model of radio"
        " and image"
    )
