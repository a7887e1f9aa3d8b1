"""What is left out when the board cannot do it all: frames first, then windows of the radio, then all frames.

A pure object, its time handed in by the caller; the scheduler owns it, so live flight and exact replay shed alike.

That the board slows itself down, because it is too hot or draws too much, is a reason: less work is then the only way
back. That an engine cannot keep up is none by itself: the latest message wins anyway, fresh, and no turn is wasted. It
is one where the deployment would rather save power (`pipeline.shedding: economy`).

What is inferred is always the newest there is: a message is left out when it comes before its turn, never kept waiting.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge.config import PipelineConfig, StreamConfig
from edge.transport.messages import Load
from models.spec import ImageRecipe, IqRecipe, ModalitySpec

NS_PER_S = 1_000_000_000
WINDOW_NS = NS_PER_S
"""Loads are taken, and levels changed, once in this time."""
PRESSED_BUSY = 0.9
PRESSED_SUPERSEDED = 0.1
"""An engine busy for this share of the time, with this share of its messages superseded, cannot keep up."""
HEAT_STEP_NS = 10 * NS_PER_S
"""Between steps while the board is hot: it takes its time to cool down."""
CALM_NS = 2 * NS_PER_S
LONGEST_CALM_NS = 64 * NS_PER_S
"""Calm before a step back. It doubles where the step back before did not last, and halves where it did."""
STRIDES = (2, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """One step of the ladder."""

    name: str
    strides: dict[str, int]
    """Modality -> n: every n-th message is inferred; 0: none."""


@dataclass(slots=True)
class _Stream:
    modality: str
    period_ns: int
    """Measured, of what arrives."""
    spacing_ns: int = 0
    """Between messages that are admitted; 0 admits all, -1 none."""
    admitted_ns: int = -(1 << 62)
    arrived: int = 0


@dataclass(slots=True)
class _Engine:
    """What one modality's engine did in the present window."""

    arrived: int = 0
    superseded: int = 0
    inferred: int = 0
    busy_ns: int = 0
    mean_ns: int = 0
    """Of an inference in the last window that had any."""


def shedding_order(modalities: Sequence[ModalitySpec]) -> tuple[str, ...]:
    """Return the modalities, the first to get less first: cameras, and radios last."""

    def place(modality: ModalitySpec) -> int:
        return 0 if isinstance(modality.recipe, ImageRecipe) else 2 if isinstance(modality.recipe, IqRecipe) else 1

    return tuple(modality.name for modality in sorted(modalities, key=place))


def ladder(order: Sequence[str]) -> tuple[Level, ...]:
    """Return the levels, from everything to the last modality alone: each leaves out more than the one before."""
    levels = [Level(name="", strides=dict.fromkeys(order, 1))]
    steps = [(name, stride) for name in order for stride in STRIDES] + [(name, 0) for name in order[:-1]]
    for name, stride in steps:
        strides = levels[-1].strides | {name: stride}
        levels.append(Level(name=_name(strides), strides=strides))
    return tuple(levels)


def _name(strides: Mapping[str, int]) -> str:
    texts = {0: "off", 2: "every 2nd", 3: "every 3rd"}
    return ", ".join(f"{name} {texts[stride]}" for name, stride in strides.items() if stride != 1)


def open_shedder(
    modalities: Sequence[ModalitySpec], streams: Mapping[str, StreamConfig], config: PipelineConfig, start_ns: int
) -> "Shedder | None":
    """Return what a deployment says is to shed its load, None where it says that nothing is."""
    if config.shedding == "off":
        return None
    return Shedder(shedding_order(modalities), streams, start_ns, is_economical=config.shedding == "economy")


class Shedder:
    """Decides on arrival which messages are left out. Not thread-safe: the scheduler's caller serialises."""

    def __init__(
        self, order: Sequence[str], streams: Mapping[str, StreamConfig], start_ns: int, *, is_economical: bool = False
    ) -> None:
        """Begin with nothing left out.

        Args:
            order: of the modalities, the first to get less first, as `shedding_order` returns it.
            streams: all that the pipeline listens to.
            start_ns: the time.
            is_economical: whether to shed when an engine cannot keep up, too.
        """
        self._is_economical = is_economical
        self._levels = ladder(order)
        self._engines = {name: _Engine() for name in order}
        self._streams = {
            name: _Stream(modality=stream.modality, period_ns=int(1e9 / stream.rate_hz))
            for name, stream in streams.items()
        }
        self._whys: list[str] = []
        """Of each step up that holds now; as many as the level."""
        self._heat = ""
        self._since_ns = start_ns
        self._climbed_ns = start_ns - HEAT_STEP_NS
        self._descended_ns: int | None = None
        """The last step back, until another step up shows that it did not last."""
        self._calm_since_ns = start_ns
        self._calm_ns = CALM_NS

    @property
    def load(self) -> Load:
        """What is left out now, and why."""
        level = len(self._whys)
        return Load(level=level, name=self._levels[level].name, why=self._whys[-1] if self._whys else "")

    def note_heat(self, why: str) -> None:
        """Take what slows the board down, in words; empty when nothing does."""
        self._heat = why

    def admits(self, stream: str, is_waiting: bool, now_ns: int) -> bool:
        """Say whether a message that has just arrived is taken in.

        Args:
            stream: that it came on.
            is_waiting: an older message of the stream waits for its turn; the newer one then takes its place, which
                makes no more work.
            now_ns: the time.
        """
        entry = self._streams[stream]
        engine = self._engines[entry.modality]
        entry.arrived += 1
        engine.arrived += 1
        if is_waiting:
            engine.superseded += 1
        elif entry.spacing_ns and (entry.spacing_ns < 0 or now_ns - entry.admitted_ns < entry.spacing_ns):
            return False
        entry.admitted_ns = now_ns
        return True

    def note_inferred(self, stream: str, took_ns: int) -> None:
        """Take how long a message of a stream occupied its engine."""
        engine = self._engines[self._streams[stream].modality]
        engine.inferred += 1
        engine.busy_ns += took_ns

    def is_off(self, stream: str) -> bool:
        """Say whether nothing of a stream is taken in."""
        return self._streams[stream].spacing_ns < 0

    def period_ns(self, stream: str) -> int:
        """Return the time between a stream's messages that are admitted, as long as something is left out; else 0."""
        entry = self._streams[stream]
        return entry.spacing_ns + entry.period_ns if entry.spacing_ns > 0 else 0

    def tick(self, now_ns: int) -> None:
        """Look once a second whether more or less is to be left out."""
        elapsed_ns = now_ns - self._since_ns
        if elapsed_ns < WINDOW_NS:
            return
        self._since_ns = now_ns
        means_ns = {name: e.busy_ns // e.inferred for name, e in self._engines.items() if e.inferred}
        for name, mean_ns in means_ns.items():
            self._engines[name].mean_ns = mean_ns
        self._judge(self._pressed(elapsed_ns), now_ns)
        for entry in self._streams.values():
            if entry.arrived > 1:
                entry.period_ns = elapsed_ns // entry.arrived
            entry.arrived = 0
        for entry in self._streams.values():
            entry.spacing_ns = self._spacing_ns(entry)
        for engine in self._engines.values():
            engine.arrived = engine.superseded = engine.inferred = engine.busy_ns = 0

    def _pressed(self, elapsed_ns: int) -> str:
        """Return the modality that cannot keep up, the first of them, or an empty string."""
        for name, engine in self._engines.items():
            is_busy = engine.busy_ns >= PRESSED_BUSY * elapsed_ns
            if is_busy and engine.superseded >= PRESSED_SUPERSEDED * engine.arrived:
                return name
        return ""

    def _judge(self, pressed: str, now_ns: int) -> None:
        if self._heat:
            self._calm_since_ns = now_ns
            if now_ns - self._climbed_ns >= HEAT_STEP_NS:
                self._climb(f"the board slows down: {self._heat}", now_ns)
        elif pressed and self._is_economical:
            self._calm_since_ns = now_ns
            self._climb(f"{pressed} cannot keep up", now_ns)
        elif self._whys and now_ns - self._calm_since_ns >= self._calm_ns:
            self._descend(now_ns)

    def _climb(self, why: str, now_ns: int) -> None:
        """Leave out more, if there is more to leave out."""
        if len(self._whys) + 1 == len(self._levels):
            return
        if self._descended_ns is not None and now_ns - self._descended_ns < LONGEST_CALM_NS:
            self._calm_ns = min(2 * self._calm_ns, LONGEST_CALM_NS)
        self._descended_ns = None
        self._climbed_ns = now_ns
        self._whys.append(why)

    def _descend(self, now_ns: int) -> None:
        """Leave out less."""
        if self._descended_ns is not None:  # the step back before has lasted
            self._calm_ns = max(self._calm_ns // 2, CALM_NS)
        self._descended_ns = self._calm_since_ns = now_ns
        self._whys.pop()

    def _spacing_ns(self, entry: _Stream) -> int:
        """Return the time between messages of a stream that are admitted.

        An engine shared by n streams that takes longer than their period sets the pace: then every n-th message is
        one of those that it could have inferred. Half a period less, because no stream is exactly in time.
        """
        stride = self._levels[len(self._whys)].strides[entry.modality]
        if stride <= 1:
            return stride - 1  # 0 admits all, -1 none
        sharing = sum(1 for other in self._streams.values() if other.modality == entry.modality)
        turn_ns = max(entry.period_ns, sharing * self._engines[entry.modality].mean_ns)
        return stride * turn_ns - entry.period_ns // 2
