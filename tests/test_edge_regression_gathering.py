"""Outcomes as they come: what is kept of hundreds of flights, which files are hashed, what the bar is told."""

from pathlib import Path

import pytest
from regressing import outcome, relabelled_bundle, write_flight

from edge.regression import carrying, hashing
from edge.regression.carrying import Means
from edge.regression.contest import Contest
from edge.regression.flights import Flight, find_flights
from edge.regression.flying import Result
from edge.regression.gathering import Gathering, fly_contest
from edge.regression.hashing import Hashes
from edge.regression.keeping import Keep
from edge.regression.outcome import Outcome
from edge.regression.tolerances import Tolerances
from models.bundle import open_bundle, shipped_bundle

CHANGES = {"none.mcap": 0, "some.mcap": 2, "many.mcap": 9, "few.mcap": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("flights")
    relabelled_bundle(folder, 2, lake="sea")
    return folder


def contest(folder: Path, *flights: Flight, **wishes) -> Contest:
    new, old = open_bundle(folder / "demo-2.uavb"), open_bundle(shipped_bundle())
    return Contest(flights=flights, new=new, old=old, tolerances=Tolerances(changed_share=1.0), **wishes)


def gathered(asked: Contest, flights: tuple[Flight, ...]) -> Gathering:
    """Ten answers to each flight, of which the new model gives so many others."""
    gathering = Gathering(asked)
    for flight in flights:
        new, old = asked.tasks_of(flight, flight.name)
        changes = CHANGES[flight.name]
        gathering.add(Result(task=new, outcome=outcome("l" * changes + "f" * (10 - changes), flight=flight.name)))
        gathering.add(Result(task=old, outcome=outcome("f" * 10, flight=flight.name)))
    return gathering


FLIGHTS = tuple(Flight(name=name, path=Path(name)) for name in CHANGES)


def test_answers_are_kept_of_those_flights_that_the_page_shows(folder) -> None:
    verdict = gathered(contest(folder, *FLIGHTS, most_detailed=2), FLIGHTS).contested().verdict
    assert {one.flight for one in verdict.flights if one.pair.said is not None} == {"many.mcap", "some.mcap"}
    assert all(one.pair.old.answers == one.pair.new.answers == () for one in verdict.flights)
    assert [len(one.pair.comparison.changes) for one in verdict.flights] == list(CHANGES.values())
    assert [bool(one.pair.sketch.changed) for one in verdict.flights] == [False, True, True, True]


def test_no_answers_are_kept_where_nobody_wants_them(folder) -> None:
    found = gathered(contest(folder, *FLIGHTS), FLIGHTS).contested()
    assert all(one.pair.said is None for one in found.verdict.flights)
    assert found.outcomes == {}


def test_answers_to_save_are_kept_as_they_are_written(folder) -> None:
    found = gathered(contest(folder, *FLIGHTS, is_saved=True), FLIGHTS).contested()
    assert list(found.outcomes) == list(CHANGES)
    assert bytes(found.outcomes["some.mcap"]).count(b'"lake",0.9') == CHANGES["some.mcap"]


def test_a_copy_is_judged_as_its_original_under_its_own_name(folder) -> None:
    original, copy = FLIGHTS[2], Flight(name="copy.mcap", path=Path("copy.mcap"))
    asked = contest(folder, original, copy, is_saved=True)
    gathering = gathered(asked, (original,))
    gathering.add(Result(task=asked.tasks_of(copy, "same")[0], copy_of="many.mcap"))
    found = gathering.contested()
    assert [len(one.pair.comparison.changes) for one in found.verdict.flights] == [9, 9]
    assert found.verdict.flights[1].pair.new.flight == "copy.mcap"
    assert b'"flight":"copy.mcap"' in bytes(found.outcomes["copy.mcap"])
    assert found.flown == 2


@pytest.fixture
def three(tmp_path, monkeypatch) -> tuple[Flight, ...]:
    """A flight, its copy, and one that is gone when it is to be flown; flown in this process."""
    monkeypatch.setattr(carrying, "in_processes", lambda work, tasks, jobs, lost: map(work, tasks))
    write_flight(tmp_path / "a.mcap", 1)
    for name in ("copy.mcap", "gone.mcap"):
        (tmp_path / name).write_bytes((tmp_path / "a.mcap").read_bytes())
    flights = find_flights([str(tmp_path / "*.mcap")])
    (tmp_path / "gone.mcap").unlink()
    return flights


def test_the_bar_counts_what_is_hashed_and_what_is_flown_up_to_the_whole(three, folder) -> None:
    asked, told = contest(folder, *three), []
    found = fly_contest(asked, Means(), told.append)
    assert told == sorted(told)
    assert told[-1] == asked.steps == 3 * (1 + 2)
    assert list(found.problems) == ["gone.mcap"]
    assert "cannot be read" in found.problems["gone.mcap"]


def test_hashes_are_remembered_until_a_file_is_touched(three, tmp_path) -> None:
    keep = Keep(tmp_path)
    flight = three[0]
    ((_, sha256),) = Hashes(keep).ahead([flight])
    assert Hashes(keep).known(flight) == sha256
    assert Hashes(None).known(flight) is None
    flight.path.write_bytes(flight.path.read_bytes() + b"more")
    assert Hashes(keep).known(flight) is None


def test_hashes_that_a_power_cut_tore_are_not_believed(three, tmp_path) -> None:
    keep = Keep(tmp_path)
    list(Hashes(keep).ahead([three[0]]))
    whole = (tmp_path / "hashes").read_bytes()
    (tmp_path / "hashes").write_bytes(whole[:-9])
    assert Hashes(keep).known(three[0]) is None
    (tmp_path / "hashes").write_bytes(b"\xff\x00\n" + whole)
    assert Hashes(keep).known(three[0]) is not None


def test_flights_are_hashed_in_order_with_what_cannot_be_read_in_its_place(three) -> None:
    many = (*three, *three, *three)
    found = list(Hashes(None).ahead(many))
    assert [flight for flight, _ in found] == list(many)
    assert [isinstance(sha256, OSError) for _, sha256 in found] == [False, False, True] * 3
    assert found[0][1] == found[1][1]


def test_nothing_more_is_hashed_when_nobody_waits_for_it(three) -> None:
    asked_for = []
    hashed = Hashes(None).ahead(asked_for.append(flight) or flight for flight in three * 20)
    next(hashed)
    hashed.close()
    assert len(asked_for) == hashing._AHEAD + 1


def test_what_is_finished_is_neither_hashed_nor_flown_again(three, folder, tmp_path, monkeypatch) -> None:
    asked, means = contest(folder, three[0]), Means(keep=tmp_path / "kept")
    first = fly_contest(asked, means, lambda done: None)
    monkeypatch.setattr(hashing, "_hash", None)
    monkeypatch.setattr(carrying, "_flown", lambda tasks, means, keep: (pytest.fail("flown") for _ in tasks))
    again = fly_contest(asked, means, lambda done: None)
    assert (first.flown, again.flown, again.kept) == (2, 0, 2)
    assert again.verdict == first.verdict


def test_the_half_of_a_flight_that_is_finished_meets_the_other(three, folder, tmp_path) -> None:
    means = Means(keep=tmp_path / "kept")
    whole = contest(folder, three[0])
    alone = Contest(flights=whole.flights, new=whole.old, old=None, tolerances=whole.tolerances)
    fly_contest(alone, means, lambda done: None)
    found = fly_contest(whole, means, lambda done: None)
    assert (found.flown, found.kept) == (1, 1)
    assert isinstance(found.verdict.flights[0].pair.old, Outcome)
