"""What is written of a verdict: JUnit XML that CI servers read, a page that opens anywhere, lines on a terminal."""

import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from regressing import outcome
from rich.console import Console
from test_edge_report import Page

from edge.regression.junit import IN_SUM, junit_xml
from edge.regression.page import write_verdict_page
from edge.regression.text import FEW, MOST_CHANGES, print_verdict
from edge.regression.tolerances import Ignored, Tolerances
from edge.regression.verdict import Verdict, verdict_of_all, verdict_of_flight

EVIL = "<b>&\x07\ud800\"'"
ALLOWED = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time"},
        {"properties", "testcase", "system-out"},
    ),
    "properties": (set(), {"property"}),
    "property": ({"name", "value"}, set()),
    "testcase": ({"name", "classname", "time"}, {"failure", "error", "system-out"}),
    "failure": ({"message", "type"}, set()),
    "error": ({"message", "type"}, set()),
    "system-out": (set(), set()),
}
"""Attributes and children: the part of the schema of Jenkins' xUnit plugin (junit-10) that we use."""


def verdict(**problem: str) -> Verdict:
    """Three flights: as it was, worse, not to be flown."""
    limits = Tolerances(ignore=(Ignored(field="masked_share.iq", reason="known"),))
    flights = [
        verdict_of_flight("same.mcap", outcome("ffll", "ffll"), outcome("ffll", "ffll"), limits),
        verdict_of_flight("worse.mcap", outcome("f" * 20, "f" * 20), outcome("fffl" * 5, "f" * 20), limits),
        verdict_of_flight("bad.mcap", outcome("f"), problem.get("problem", "bad.mcap: no magic"), limits),
    ]
    return verdict_of_all(flights, ("demo-1", "demo-2"), limits)


def elements(verdict: Verdict) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(junit_xml(verdict)).iter())


def test_junit_counts_a_failure_for_each_regression_and_an_error_for_what_cannot_be_flown() -> None:
    suite = ElementTree.fromstring(junit_xml(verdict())).find("testsuite")
    assert {name: suite.attrib[name] for name in ("tests", "failures", "errors")} == {
        "tests": "4",
        "failures": "2",
        "errors": "1",
    }
    cases = {case.attrib["name"]: [child.tag for child in case] for case in suite.iter("testcase")}
    assert cases == {
        "same.mcap": [],
        "worse.mcap": ["failure", "system-out"],
        "bad.mcap": ["error"],
        IN_SUM: ["failure"],
    }
    assert "accuracy 1 -> 0.75" in suite.find("testcase/failure").attrib["message"]
    assert suite.find("testcase/error").attrib["message"] == "bad.mcap: no magic"


def test_junit_uses_nothing_that_the_schema_does_not_know() -> None:
    for element in elements(verdict()):
        attributes, children = ALLOWED[element.tag]
        assert set(element.attrib) <= attributes
        assert {child.tag for child in element} <= children
        if element.tag in ("testsuites", "testsuite"):
            assert attributes == set(element.attrib)


def test_text_that_xml_cannot_hold_is_replaced() -> None:
    (error,) = [element for element in elements(verdict(problem=EVIL)) if element.tag == "error"]
    assert error.text == "<b>&\ufffd\ufffd\"'"


def test_every_element_of_the_page_is_closed_and_nothing_refers_to_the_outside(tmp_path: Path) -> None:
    write_verdict_page(tmp_path / "page.html", verdict(problem="<script>alert(1)</script>"))
    page = Page(tmp_path / "page.html")
    assert page.open == []
    assert page.count("script") == page.count("link") == page.count("img") == 0
    assert "http" not in page.source
    assert "prefers-color-scheme: dark" in page.source


def test_the_page_shows_flights_changes_and_what_is_ignored(tmp_path: Path) -> None:
    write_verdict_page(tmp_path / "page.html", verdict())
    page = Page(tmp_path / "page.html")
    changed_runs, drawn_twice = 5, 2
    assert page.count("rect", "mark") == changed_runs * drawn_twice
    assert "worse.mcap regression 20 5 0 5 100.0% 75.0%" in page.text
    assert "bad.mcap error" in page.text
    assert "bad.mcap: no magic" in page.text
    assert "after 0.300 s: forest (0.900) -> lake (0.900), truth forest: broken" in page.text
    assert "ignored: masked_share.iq: known" in page.text


def test_flights_of_which_none_could_be_flown_make_a_page_and_a_file(tmp_path: Path) -> None:
    limits = Tolerances()
    none = verdict_of_all([verdict_of_flight("a", "a: gone", "a: gone", limits)], ("1", "2"), limits)
    write_verdict_page(tmp_path / "page.html", none)
    assert "1 could not be compared" in Page(tmp_path / "page.html").text
    assert [element.tag for element in elements(none)].count("testcase") == 1


def test_a_flight_without_answers_makes_a_page(tmp_path: Path) -> None:
    limits = Tolerances()
    flight = verdict_of_flight("a", outcome("ff"), outcome(""), limits)
    write_verdict_page(tmp_path / "page.html", verdict_of_all([flight], ("1", "2"), limits))
    assert "missing_share worse" in Page(tmp_path / "page.html").text


def test_lines_name_the_first_changes_and_count_the_others() -> None:
    limits = Tolerances()
    flight = verdict_of_flight("[red]a", outcome("f" * 30), outcome("l" * 30), limits)
    text = io.StringIO()
    print_verdict(verdict_of_all([flight], ("1", "2"), limits), Console(file=text, width=120))
    said = text.getvalue()
    assert said.count("forest (0.900) -> lake (0.900)") == MOST_CHANGES
    assert f"and {30 - MOST_CHANGES} more" in said
    assert "[red]a" in said
    assert "1 flight: 2 against 1, 1 got worse, worse in sum" in said


def test_of_many_flights_only_those_that_got_worse_have_their_changes_listed() -> None:
    limits = Tolerances()
    flights = [
        verdict_of_flight(f"{n}.mcap", outcome("f" * 20), outcome("f" * 19 + "l"), limits) for n in range(FEW + 1)
    ]
    flights.append(verdict_of_flight("worse.mcap", outcome("ff"), outcome("fl"), limits))
    text = io.StringIO()
    print_verdict(verdict_of_all(flights, ("1", "2"), limits), Console(file=text, width=120))
    assert [line.split(":")[0] for line in text.getvalue().splitlines() if " -> lake" in line] == ["worse.mcap"]
