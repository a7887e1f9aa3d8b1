"""What counts while clocks jump, disks are slow and processes are killed: nothing twice, what is genuine in the end."""

from hypothesis import given, settings
from hypothesis import strategies as st
from signatures import GROUND, KEY, UTC_NS, VEHICLE, Calendar, by, command, heartbeat

from edge.mavlink.trust.signing import Refusal, Signing

DAY_NS = 86_400 * 10**9
JUMPS_NS = [-UTC_NS, -DAY_NS, -61 * 10**9, -(10**9), 10**7, 10**9, 20 * 10**9, 61 * 10**9, DAY_NS]
STEPS = st.sampled_from(
    ["send", "send", "send", "replay", "replay", "ours jumps", "theirs jumps", "hear", "save", "crash", "end"]
)


class Flight:
    """A vehicle with a disk, its ground station, and somebody who sends what was sent again."""

    def __init__(self) -> None:
        self.ours_utc, self.theirs_utc = Calendar(), Calendar()
        self.theirs = Signing(KEY, self.theirs_utc, is_clean=True)
        self.disk: tuple[int | None, bool] = None, True
        self.sent: list[bytes] = []
        self.counted: list[bytes] = []
        self.start()

    def start(self) -> None:
        """Begin as `OpenKey` does: the time is on disk before anything counts."""
        saved, is_clean = self.disk
        self.ours = Signing(KEY, self.ours_utc, saved, is_clean=is_clean)
        self.disk = self.ours.newest, False

    def step(self, what: str, number: int) -> None:
        """Let something happen."""
        jump_ns = JUMPS_NS[number % len(JUMPS_NS)]
        if what == "send":
            self.send()
        elif what == "replay" and self.sent:
            self.arrive(self.sent[number % len(self.sent)])
        elif what == "ours jumps":
            self.ours_utc.now_ns = max(self.ours_utc.now_ns + jump_ns, 0)
        elif what == "theirs jumps":
            self.theirs_utc.now_ns = max(self.theirs_utc.now_ns + jump_ns, 0)
        elif what == "hear":
            self.theirs.check(by(self.ours, heartbeat(), VEHICLE))
            self.theirs.note_saved(self.theirs.newest)
        elif what == "save":
            self.disk = self.ours.newest, False
            self.ours.note_saved(self.ours.newest)
        elif what in ("crash", "end"):
            self.disk = (self.ours.newest, True) if what == "end" else self.disk
            self.start()

    def send(self) -> Refusal | None:
        self.sent.append(by(self.theirs, command(), GROUND))
        return self.arrive(self.sent[-1])

    def arrive(self, frame: bytes) -> Refusal | None:
        refusal = self.ours.check(frame)
        if refusal is None:
            self.counted.append(frame)
        return refusal


@settings(max_examples=150)
@given(st.lists(st.tuples(STEPS, st.integers(0, 17)), min_size=15, max_size=40))
def test_nothing_counts_twice_and_who_has_heard_us_counts(steps: list[tuple[str, int]]) -> None:
    flight = Flight()
    for what, number in steps:
        flight.step(what, number)
    for frame in list(flight.sent):
        flight.arrive(frame)
    assert len(set(flight.counted)) == len(flight.counted)

    flight.step("hear", 0)
    flight.send()
    flight.step("save", 0)

    assert flight.send() is None


def test_a_clock_that_is_set_in_flight_costs_one_save() -> None:
    flight = Flight()
    flight.ours_utc.now_ns = 0
    flight.disk = None, True
    flight.start()

    assert flight.send() == Refusal.NOT_SAVED
    flight.step("save", 0)
    assert flight.send() is None
    flight.ours_utc.now_ns = UTC_NS + DAY_NS
    flight.step("hear", 0)

    assert flight.send() == Refusal.NOT_SAVED
    flight.step("save", 0)
    assert flight.send() is None


def test_a_ground_station_that_was_away_for_long_counts_once_it_has_heard_us() -> None:
    flight = Flight()
    assert flight.send() is None
    flight.ours_utc.now_ns = flight.theirs_utc.now_ns = UTC_NS + 30 * DAY_NS
    flight.step("hear", 0)
    flight.step("save", 0)

    assert flight.send() is None
