"""The report must open anywhere, hold every run that it was given, and survive flights in which nothing went well."""

from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge.operations.flown import Flown, LoadChange
from edge.operations.report import write_report
from edge.operations.report_series import Timeline, column_means, errors, runs, timeline
from edge.operations.report_svg import ticks_logarithmic, ticks_of_time
from edge.transport.messages import NO_DATA, Classification, ModalityAnswer, StreamAccounting, Truth
from edge.transport.truths import TruthTimeline
from models.errors import RecordingError

LABELS = ("forest", "lake", "harbour")
PERIOD_NS = 33_000_000
START_NS = 7_000_000_000
MAX_PAGE_BYTES = 2 << 20
STAGES = {"transport": 0.2, "queue": 0.1, "preprocess": 0.3, "infer": 2.0, "fuse": 0.1, "total": 2.7}


def answer(n: int, class_id: int, *, iq: int | None = None, image: int | None = None) -> Classification:
    """The n-th answer; a modality without a class of its own is absent."""
    own = {"iq": iq, "image": image}
    present = [name for name, own_id in own.items() if own_id is not None]
    modalities = tuple(
        ModalityAnswer(name=name, mask=0.0, reason="silent")
        if own_id is None
        else ModalityAnswer(name=name, mask=1.0, weight=1.0 / len(present), entropy=0.3, class_id=own_id)
        for name, own_id in own.items()
    )
    return Classification(
        sequence=n + 1,
        capture_ns=START_NS + n * PERIOD_NS,
        answer_ns=START_NS + n * PERIOD_NS + 2_700_000,
        class_id=class_id,
        label=LABELS[class_id] if class_id >= 0 else NO_DATA,
        confidence=0.9,
        probs=(),
        modalities=modalities,
        latency_ms=dict(STAGES) if present else {},
    )


def flown(answers: Sequence[Classification], truths: Sequence[int] = (), **changes: Any) -> Flown:
    """A flight whose truth is `truths[n]` from the n-th answer on."""
    timeline_of_truth = TruthTimeline(
        Truth(capture_ns=START_NS + n * PERIOD_NS, class_id=class_id, label=LABELS[class_id])
        for n, class_id in enumerate(truths)
    )
    fields = {"title": "a flight", "model": "demo-1", "labels": LABELS, "streams": {}, "truths": timeline_of_truth}
    return Flown(answers=answers, **(fields | changes))


COUNTS = ("received", "processed", "superseded", "dropped_late", "shed", "gathered", "in_flight")


def ledger(**changes: Any) -> StreamAccounting:
    counts: dict[str, Any] = {
        "received": 111,
        "processed": 90,
        "superseded": 5,
        "dropped_late": 1,
        "shed": 4,
        "gathered": 7,
        "rejected": {"black": 3},
        "in_flight": 1,
        "lost_transport": 0,
        "state": "live",
    }
    return StreamAccounting(**(counts | changes))


class Page(HTMLParser):
    """Collects what a test asks about a page."""

    VOID = frozenset({"meta", "link", "img", "br", "input"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self.open.pop() != tag:
            raise ValueError(f"</{tag}> closes another element")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def count(self, tag: str, kind: str = "") -> int:
        return sum(1 for name, attrs in self.tags if name == tag and (not kind or attrs.get("class") == kind))


def page_of(folder: Path, flight: Flown) -> Page:
    path = folder / "report.html"
    write_report(path, flight)
    return Page(path)


def test_every_element_is_closed_and_nothing_refers_to_the_outside(tmp_path: Path) -> None:
    page = page_of(tmp_path, flown([answer(n, n % 3, iq=0, image=1) for n in range(20)], [0] * 20))
    assert page.open == []
    assert page.count("script") == page.count("link") == page.count("img") == page.count("iframe") == 0
    assert not any(name in attrs for _, attrs in page.tags for name in ("src", "href", "xlink:href"))
    assert "url(" not in page.source
    assert "http" not in page.source


def test_strips_have_a_segment_for_each_run_of_equal_classes(tmp_path: Path) -> None:
    classes = [0, 0, 0, 1, 1, 2, 2, 2, 0, 0]
    answers = [answer(n, class_id, iq=class_id, image=0) for n, class_id in enumerate(classes)]
    page = page_of(tmp_path, flown(answers, classes))
    runs_of_class, constant = 4, 1
    truth, fused, iq_alone, image_alone = runs_of_class, runs_of_class, runs_of_class, constant
    states = 2 * constant
    assert page.count("rect", "segment") == truth + fused + iq_alone + image_alone + states
    wrong_runs_of_image = 1  # classes 1 and 2 in the middle, where the image still says 0
    assert page.count("rect", "mark") == wrong_runs_of_image


def test_accuracy_of_fused_and_each_modality_is_shown(tmp_path: Path) -> None:
    answers = [answer(n, 0, iq=int(n == 0), image=int(n > 0)) for n in range(4)]
    page = page_of(tmp_path, flown(answers, [0] * 4))
    assert "100.0%" in page.text
    assert "75.0%" in page.text
    assert "25.0%" in page.text


def test_a_flight_without_answers_makes_a_page_that_says_so(tmp_path: Path) -> None:
    page = page_of(
        tmp_path,
        flown(
            [],
            streams={"radio": ledger(**dict.fromkeys(COUNTS, 0), rejected={})},
        ),
    )
    assert page.open == []
    assert "not a single answer" in page.text


def test_without_truth_nothing_is_scored_and_no_error_is_marked(tmp_path: Path) -> None:
    page = page_of(tmp_path, flown([answer(n, n % 3, iq=0, image=1) for n in range(9)]))
    assert "nothing is scored" in page.text
    assert page.count("rect", "mark") == 0


def test_a_flight_of_no_data_makes_a_page(tmp_path: Path) -> None:
    page = page_of(tmp_path, flown([answer(n, -1) for n in range(5)], [1] * 5))
    assert "no data" in page.text
    assert "silent" in page.text
    assert "there is no latency" in page.text


def test_text_from_outside_cannot_become_markup(tmp_path: Path) -> None:
    evil = "<script>alert('1')</script>"
    reason_of_evil = ModalityAnswer(name='iq"><b>', mask=0.0, reason="<i>reason</i>")
    changed = msgspec.structs.replace(answer(0, 0, iq=0, image=0), modalities=(reason_of_evil,))
    page = page_of(
        tmp_path,
        flown(
            [changed],
            [0],
            title=evil,
            model=evil,
            labels=(evil, "<b>", "&amp;"),
            streams={evil: ledger(state=evil, rejected={evil: 3})},
        ),
    )
    assert page.open == []
    assert page.count("script") == 0
    assert evil in page.text
    assert "<i>reason</i>" in page.text
    assert 'iq"><b>' in page.text


def test_an_accounting_that_does_not_balance_is_called_out(tmp_path: Path) -> None:
    good = page_of(tmp_path, flown([], streams={"radio": ledger()}))
    assert "111 = 90 + 5 + 1 + 4 + 7 + 3 + 1 ✓ balanced" in good.text
    bad = page_of(tmp_path, flown([], streams={"radio": ledger(received=112)}))
    assert "112 = 90 + 5 + 1 + 4 + 7 + 3 + 1 ✗ not balanced" in bad.text


def test_drops_are_listed_by_reason_with_their_counts(tmp_path: Path) -> None:
    page = page_of(tmp_path, flown([], streams={"camera": ledger(lost_transport=7)}))
    for reason, count in (
        ("superseded by a newer one", 5),
        ("too late", 1),
        ("shed", 4),
        ("rejected: black", 3),
        ("lost before arrival", 7),
    ):
        assert f"camera {reason} {count}" in page.text


def test_what_was_shed_and_why_is_listed(tmp_path: Path) -> None:
    changes = (
        LoadChange(after_s=12.0, level=1, name="image every 2nd", why="the board slows down: <oc1>"),
        LoadChange(after_s=30.5, level=0, name="", why=""),
    )
    page = page_of(tmp_path, flown([], loads=changes))
    assert "12.0 s image every 2nd the board slows down: <oc1> 30.5 s nothing any more" in page.text
    assert "What was shed" not in page_of(tmp_path, flown([])).text


def test_a_flight_without_drops_says_so(tmp_path: Path) -> None:
    clean = ledger(processed=104, gathered=7, shed=0, superseded=0, dropped_late=0, rejected={}, in_flight=0)
    assert "Drops by reason Nothing was dropped." in page_of(tmp_path, flown([], streams={"radio": clean})).text


def test_a_few_answers_of_other_sensors_are_listed_but_not_drawn(tmp_path: Path) -> None:
    usual = [answer(n, 0, iq=0, image=0) for n in range(20)]
    page = page_of(tmp_path, flown([*usual, answer(20, 0, iq=0), answer(21, 0, iq=0)]))
    curves = [attrs["d"] for tag, attrs in page.tags if attrs.get("class") == "curve" and "stroke" in attrs]
    entropies = 2
    assert len(curves) == entropies + 1
    assert "iq 2 2.70" in page.text


def test_ten_thousand_restless_answers_stay_below_two_megabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    picks = rng.integers(0, 3, size=(10_000, 4)).tolist()
    answers = [answer(n, fused, iq=iq, image=image) for n, (fused, iq, image, _) in enumerate(picks)]
    write_report(tmp_path / "report.html", flown(answers, [truth for *_, truth in picks]))
    assert (tmp_path / "report.html").stat().st_size < MAX_PAGE_BYTES


def test_a_folder_that_does_not_exist_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="folder that exists"):
        write_report(tmp_path / "absent" / "report.html", flown([]))


def test_answers_stand_until_the_next_one_but_not_through_a_gap() -> None:
    times = timeline([answer(n, 0) for n in (0, 1, 2, 3, 103, 104)])
    period_s = PERIOD_NS / 1e9
    assert times.ends_s[2] == pytest.approx(times.starts_s[3])
    assert times.ends_s[3] == pytest.approx(times.starts_s[3] + 4 * period_s)
    assert [run.answers for run in runs(times, [0] * 6)] == [4, 2]


def test_a_capture_time_that_steps_back_does_not_turn_the_timeline_around() -> None:
    times = timeline([answer(n, 0) for n in (0, 2, 1, 3)])
    assert (np.diff(times.starts_s) >= 0).all()
    assert (times.ends_s >= times.starts_s).all()


def test_too_many_runs_become_columns_of_what_was_said_most() -> None:
    times = timeline([answer(n, 0) for n in range(1000)])
    columns = runs(times, [("rare" if n % 10 == 0 else "often") for n in range(1000)], limit=50)
    assert [run.key for run in columns] == ["often"]
    assert columns[0].end_s == pytest.approx(times.duration_s)


def test_errors_of_columns_are_shares_of_wrong_answers() -> None:
    times = timeline([answer(n, 0) for n in range(1000)])
    quarter_wrong = errors(times, [int(n % 4 == 0) for n in range(1000)], [0] * 1000, limit=10)
    assert len(quarter_wrong) == 10
    assert all(run.key == pytest.approx(0.25, abs=0.01) for run in quarter_wrong)


def test_absent_answers_and_unknown_truths_are_no_errors() -> None:
    times = timeline([answer(n, 0) for n in range(4)])
    assert errors(times, [-1, 1, None, 1], [0, None, 0, 1]) == []


def test_column_means_leave_gaps_empty_and_ignore_missing_values() -> None:
    starts_s = np.array([0.0, 0.1, 0.9, 1.0])
    times = Timeline(starts_s=starts_s, ends_s=starts_s + 0.1)
    _, means = column_means(times, np.array([[1.0], [np.nan], [2.0], [4.0]]), columns=2)
    assert means[:, 0].tolist() == [1.0, 3.0]
    _, each = column_means(times, np.array([[1.0], [1.0], [2.0], [4.0]]), columns=100)
    assert np.isnan(each[:, 0]).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("span_s", [0.001, 0.7, 20.0, 333.0, 7_000.0, 900_000.0])
def test_time_axes_have_a_few_round_marks(span_s: float) -> None:
    ticks = ticks_of_time(span_s)
    assert 2 <= len(ticks) <= 12
    assert all(0.0 <= tick.place <= 1.0 for tick in ticks)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.3), (1.0, 4.6), (0.1, 100.0), (0.001, 10_000.0)])
def test_logarithmic_axes_have_a_few_marks_within_their_ends(low: float, high: float) -> None:
    ticks = ticks_logarithmic(low, high)
    assert 1 <= len(ticks) <= 12
    assert all(-0.01 <= tick.place <= 1.01 for tick in ticks)
