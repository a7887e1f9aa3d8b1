"""A benchmark's page and trace: whole, offline, and valid."""

import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from benched import STAGES, report, timed

from edge.bench.page import write_page
from edge.bench.pictures import bars, cumulative, series, waterfall
from edge.bench.result import Absent
from edge.bench.trace import chrome_trace
from edge.cli import main


class Balanced(HTMLParser):
    """Notes tags that are left open or closed twice, what is loaded, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.words = ""

    def handle_starttag(self, tag, attrs):
        self.loaded += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def test_a_page_is_whole_and_loads_nothing(tmp_path) -> None:
    path = tmp_path / "bench.html"
    absent = (Absent(name="trt:int8", remedy="no plans"),)
    write_page(path, report(model="<demo>", absent=absent), [timed(100)])
    page = Balanced()
    page.feed(path.read_text())
    assert (page.open, page.loaded) == ([], [])
    for words in (
        "Benchmark of <demo>",
        "image paced: floor",
        "1.10 (1.00 to 1.20)",
        "61.44 MS/s",
        "onnxruntime:int8",
        "trt:int8 is left out: no plans",
        "image x 3",
        "shared memory",
        "Over time",
    ):
        assert words in page.words


def test_a_page_of_a_comparison_alone_has_no_latencies(tmp_path) -> None:
    path = tmp_path / "bench.html"
    write_page(path, report(latencies=(), overloads=(), offline=(), ingest=None, core=None), [])
    assert "Side by side" in path.read_text()
    assert "Over time" not in path.read_text()


@pytest.mark.parametrize(
    "drawing",
    [
        cumulative({"<a>": [1.0, 2.0, 3.0], "b": [0.0]}),
        series([0.0, 1.0], [1.0, 5.0], "<a>"),
        waterfall([("<a>", {"x": 1.0}), ("b", {"x": 0.5, "y": 2.0})]),
        bars([("<a>", 1.0), ("b", 3.0)], "ms"),
    ],
)
def test_pictures_are_valid_and_escape_their_names(drawing: str) -> None:
    whole = ElementTree.fromstring(f"<div>{drawing.replace('&nbsp;', ' ')}</div>")
    assert whole.find("svg") is not None
    assert "<a>" in "".join(whole.itertext())


@pytest.mark.parametrize(
    "drawing", [cumulative({}), cumulative({"a": []}), series([], [], "a"), waterfall([]), bars([], "")]
)
def test_there_is_no_picture_of_nothing(drawing: str) -> None:
    assert drawing == ""


def test_bars_are_as_long_as_their_values() -> None:
    widths = [
        float(one.get("width")) for one in ElementTree.fromstring(bars([("a", 1.0), ("b", 4.0)], "s")).iter("rect")
    ]
    assert widths[1] == pytest.approx(4 * widths[0], rel=0.01)


def test_a_long_series_keeps_its_largest_values() -> None:
    values = [1.0] * 10_000
    values[5_000] = 50.0
    dots = list(ElementTree.fromstring(series(range(10_000), values, "a")).iter("circle"))
    assert len(dots) <= 600
    assert len({dot.get("cy") for dot in dots}) == 2


def test_a_trace_has_a_span_for_each_stage_of_each_message_of_the_last_second() -> None:
    trace = json.loads(chrome_trace([timed(250)]))
    spans = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(spans) == 100 * len(STAGES)
    first = [span for span in spans if span["args"]["message"] == spans[0]["args"]["message"]]
    assert [span["name"] for span in first] == list(STAGES)
    assert [span["dur"] for span in first] == [1000.0 * value for value in STAGES.values()]
    assert [span["ts"] for span in first] == [0.0, 1000.0, 1250.0, 1750.0, 3750.0]


def test_the_processes_of_a_trace_are_the_paths_and_its_threads_the_stages() -> None:
    events = json.loads(chrome_trace([timed(3), timed(0)]))["traceEvents"]
    names = [event["args"]["name"] for event in events if event["ph"] == "M"]
    assert names == ["image paced", *STAGES] * 2
    assert {event["pid"] for event in events} == {1, 2}


def test_a_trace_of_scenarios_without_answers_is_refused(capsys) -> None:
    assert main(["bench", "--scenario", "offline", "--trace", "t.json"]) == 2
    assert "multi, paced, single" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path, capsys) -> None:
    assert main(["bench", "--html", str(tmp_path / "none" / "page.html")]) == 6
    assert "page.html" in capsys.readouterr().err
