"""The report of a selfcheck: JSON with a schema, a page that loads nothing, and nothing of host, user or paths."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from boards import AGX_ORIN_JETPACK_7, ORIN_NANO_JETPACK_6, make_board
from selfchecking import asked_of, fake_gpu, flown_as_asked

from edge.operations.board import read_board
from edge.operations.board_power import PowerMeter
from edge.selfcheck import device as device_module
from edge.selfcheck import measuring, parity
from edge.selfcheck.device import check_device
from edge.selfcheck.report import SCHEMA, document_of, without_names, write_report
from models.bundle import Bundle, open_bundle, shipped_bundle
from models.errors import RecordingError


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(shipped_bundle())


@pytest.fixture(autouse=True)
def few_runs(monkeypatch):
    monkeypatch.setattr(measuring, "RUNS", 2)
    monkeypatch.setattr(device_module, "examples_of", lambda bundle: parity.examples_of(bundle, 2))


class Cells(HTMLParser):
    """Collects the text of a page, and what it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.loaded: list[str] = []

    def handle_data(self, data):
        self.texts.append(data)

    def handle_starttag(self, tag, attributes):
        self.loaded += [value for name, value in attributes if name in ("src", "href")]


@pytest.fixture
def written(bundle, tmp_path) -> tuple[Path, Path]:
    """Return the report of a sound device on a board that tells everything."""
    root = make_board(tmp_path / "tree", AGX_ORIN_JETPACK_7)
    asked = asked_of(
        bundle,
        fake_gpu(bundle),
        tmp_path,
        seconds=0.2,
        fly=flown_as_asked,
        look=lambda: read_board(root, lambda _: None),
        meter=lambda: PowerMeter(root),
    )
    check = check_device(asked)
    return write_report(tmp_path / "out", document_of(check.lines, bundle, check.before, check))


def test_the_report_is_json_with_a_schema_and_every_figure(written, bundle):
    document = json.loads(written[0].read_text())
    assert document["schema"] == SCHEMA
    assert document["model"] == {"title": "demo-1", "sha256": bundle.sha256}
    assert document["versions"]["tensorrt"] == "10.3.0.30"
    assert document["versions"]["driver"] == "540.4.0"
    assert document["device"]["gpu"]["compute_capability"] == "8.7"
    ways = document["device"]["measured"]["fp32"]["ways"]
    assert len(ways) == 6
    assert ways[0]["timings"]["iq"].keys() == {"host_p50_ms", "host_p90_ms", "gpu_p50_ms"}
    assert document["board"]["before"]["power_mode"] == "mode 0"
    assert document["board"]["after"]["rails_mw"]["VDD_GPU_SOC"] == 4000.0
    assert document["device"]["energy"]["mean_mw"] == pytest.approx(10_000.0)
    assert document["device"]["flights"][0]["energy"] is None  # it was over after one sample


def test_every_key_of_the_report_is_documented(written, root):
    document, text = json.loads(written[0].read_text()), (root / "docs" / "selfcheck.md").read_text()
    listed = re.findall(
        r"^\| `([a-z. ]+)` \|", text.partition("## The JSON file")[2].partition("\n## ")[0], re.MULTILINE
    )
    assert listed == [*document, *(f"device.{key}" for key in document["device"])]


def test_the_page_is_whole_and_loads_nothing(written):
    cells = Cells()
    cells.feed(written[1].read_text())
    text = " ".join(cells.texts)
    assert cells.loaded == []
    for part in (
        "Plans in fp32",
        "mapped, with",
        "at work",
        "took 10.00 W on average",
        "Jetson AGX Orin",
        "answers of fusion in fp32",
        "Versions",
        "VDD_CPU_CV",
    ):
        assert part in text
    assert written[1].stat().st_size < 200_000


def test_the_report_tells_neither_path_nor_host(written, tmp_path, monkeypatch):
    for path in written:
        text = path.read_text()
        assert str(tmp_path) not in text
        assert str(shipped_bundle().parent) not in text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/var/lib/uav/plans/ab.json: gone", "…/ab.json: gone"),
        ("build --bundle /home/ada/x/demo-1.uavb --plans=/data/p", "build --bundle …/demo-1.uavb --plans=…/p"),
        ("set CUDA_ROOT=/usr/local/cuda", "set CUDA_ROOT=/usr/local/cuda"),
        ("/proc/driver/nvidia/version says so", "/proc/driver/nvidia/version says so"),
        ("3 of 4 messages/s, and/or none", "3 of 4 messages/s, and/or none"),
        ("on uav-7 since noon", "on this-host since noon"),
        ("https://docs.nvidia.com/jetson", "https://docs.nvidia.com/jetson"),
    ],
)  # fmt: skip
def test_of_paths_the_last_part_alone_is_left(text, left):
    assert without_names({"a": [text]}, host="uav-7") == {"a": [left]}


def test_the_home_folder_and_its_owner_are_not_named(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert without_names("/home/ada/flights/plans and /home/ada", host="x") == "…/plans and ~"


def test_a_report_that_cannot_be_written_says_so(bundle, tmp_path):
    (tmp_path / "file").write_text("")
    document = document_of([], bundle, read_board(tmp_path, lambda _: None), None)
    with pytest.raises(RecordingError, match="cannot be written"):
        write_report(tmp_path / "file", document)


def test_the_board_is_looked_at_before_at_work_and_after(bundle, tmp_path):
    clocks = iter(["306000000", "1020000000", "408000000"])

    def look():
        files = {**ORIN_NANO_JETPACK_6, "sys/class/devfreq/17000000.gpu/cur_freq": next(clocks)}
        return read_board(make_board(tmp_path / "orin", files), lambda words: None)

    check = check_device(asked_of(bundle, fake_gpu(bundle), tmp_path, look=look))
    document = document_of(check.lines, bundle, check.before, check)
    assert {when: board["gpus"][0]["now_mhz"] for when, board in document["board"].items()} == {
        "before": 306.0, "at work": 1020.0, "after": 408.0
    }  # fmt: skip
