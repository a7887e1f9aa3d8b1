"""The check of a device on a fake GPU: what it finds, what it says where something is wrong, what it leaves behind."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from boards import AGX_ORIN_JETPACK_7, HWMON, ORIN_NANO_JETPACK_6, make_board
from selfchecking import ROLES, asked_of, fake_gpu, flown_as_asked, found, rounded, store_plans, with_precision

from edge.backends.cuda import MEMORY_MODES
from edge.backends.plan_key import Platform
from edge.operations.board import read_board
from edge.operations.board_power import PowerMeter
from edge.selfcheck import device as device_module
from edge.selfcheck import measuring, parity
from edge.selfcheck.device import check_device
from edge.selfcheck.gpu import Found
from edge.selfcheck.line import Line, worst
from edge.selfcheck.report import SCHEMA, document_of, without_names, write_report
from models.bundle import Bundle, open_bundle, shipped_bundle
from models.errors import DeviceError, LinkError

VARIANTS = 2


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(shipped_bundle())


@pytest.fixture(autouse=True)
def few_runs(monkeypatch):
    monkeypatch.setattr(measuring, "RUNS", 2)
    monkeypatch.setattr(device_module, "examples_of", lambda bundle: parity.examples_of(bundle, VARIANTS))


def named(check, text: str) -> list[Line]:
    """Return the lines whose name has a text in it."""
    return [line for line in check.lines if text in line.name]


def test_a_sound_device_passes_every_check_and_is_left_clean(bundle, tmp_path):
    fake = fake_gpu(bundle)
    check = check_device(asked_of(bundle, fake, tmp_path))
    assert [str(line) for line in check.lines if line.status != "ok"] == []
    measured = check.measured["fp32"]
    assert [(way.memory, way.cuda_graphs) for way in measured.ways] == [
        (mode, graphs) for mode in MEMORY_MODES for graphs in (False, True)
    ]
    for way in measured.ways:
        assert way.captured == (ROLES if way.cuda_graphs else ())
        assert set(way.timings) == {*ROLES, "all"}
        assert all(timing.host_p90_ms >= timing.host_p50_ms > 0 for timing in way.timings.values())
        assert [way.timings[role].gpu_p50_ms for role in ROLES] == [0.25] * 3
        assert way.difference == 0
    assert fake.alive == fake.violations == []
    assert fake.memory == fake.executables == fake.graphs == {}


def test_each_graph_is_compared_with_fp32_on_golden_examples_and_variants_of_them(bundle, tmp_path):
    check = check_device(asked_of(bundle, fake_gpu(bundle), tmp_path))
    parities = {one.role: one for one in check.measured["fp32"].parities}
    assert set(parities) == set(ROLES)
    assert all(one.examples == 4 + VARIANTS and one.agreement == 1.0 for one in parities.values())
    assert all(one.most_difference < 1e-5 for one in parities.values())


@pytest.mark.parametrize(
    ("precision", "error", "status"),
    [("fp16", 0.004, "ok"), ("fp16", 0.05, "failed"), ("int8", 0.02, "ok"), ("int8", 50.0, "failed")],
)
def test_other_precisions_are_held_to_their_own_bounds(bundle, tmp_path, precision, error, status):
    other = with_precision(bundle, precision)
    check = check_device(asked_of(other, fake_gpu(bundle, precision, error), tmp_path))
    assert list(check.measured) == ["fp32", precision]
    judged = [
        line
        for line in named(check, "answers of")
        if line.name.endswith((f"iq in {precision}", f"image in {precision}"))
    ]
    assert [line.status for line in judged] == [status] * 2
    assert worst(named(check, "in fp32")) == "ok"


def test_a_branch_that_is_wrong_in_fp32_fails(bundle, tmp_path):
    fake = fake_gpu(bundle)
    fake.models[bundle.graph("iq")] = rounded(fake.models[bundle.graph("iq")], 0.01)
    check = check_device(asked_of(bundle, fake, tmp_path))
    (line,) = named(check, "answers of iq")
    assert line.status == "failed"
    assert line.found.endswith("logits within 0.01")
    assert line.remedy


def test_plans_that_are_missing_are_built_and_the_next_check_finds_them(bundle, tmp_path):
    (first,) = named(check_device(asked_of(bundle, fake_gpu(bundle), tmp_path)), "plans in")
    assert first.found.startswith("built now, as before: iq: ")
    (second,) = named(check_device(asked_of(bundle, fake_gpu(bundle), tmp_path, build=None)), "plans in")
    assert second.found == "there, and they fit"


def test_without_building_a_missing_plan_is_named_with_the_command(bundle, tmp_path):
    check = check_device(asked_of(bundle, fake_gpu(bundle), tmp_path, build=None))
    (line,) = named(check, "plans in")
    assert line.status == "failed"
    assert "uav-calibrate build --bundle" in line.remedy
    assert check.measured == {}


def test_a_plan_built_elsewhere_is_named_with_the_field_that_differs(bundle, tmp_path):
    asked = asked_of(bundle, fake_gpu(bundle), tmp_path)
    store_plans(asked.choice)
    elsewhere = Platform(provider="tensorrt", version="10.16.2.10", facts=asked.find().gpu.platform.facts)
    other = asked_of(bundle, fake_gpu(bundle), tmp_path, build=None, find=lambda: found(fake_gpu(bundle), elsewhere))
    (line,) = named(check_device(other), "plans in")
    assert line.status == "failed"
    assert "version: expected 10.16.2.10, found 10.3.0.30" in line.found
    assert "uav-calibrate build" in line.remedy


def test_a_build_that_fails_is_told_with_its_last_words(bundle, tmp_path):
    check = check_device(asked_of(bundle, fake_gpu(bundle), tmp_path, build=lambda choice: "exit code 4 (no room)"))
    (line,) = named(check, "plans in")
    assert line.status == "failed"
    assert "exit code 4 (no room)" in line.found


def test_no_device_is_a_check_without_a_gpu_and_nothing_is_tried(bundle, tmp_path):
    lines = [Line(name="GPU", status="failed", expected="one", found="none", remedy="run it on the device")]
    check = check_device(asked_of(bundle, fake_gpu(bundle), tmp_path, find=lambda: Found(gpu=None, lines=lines)))
    assert check.gpu is None
    assert check.lines == lines
    assert check.measured == {}


@pytest.mark.parametrize(
    ("call", "told"), [("Runtime", "the driver is older than TensorRT's CUDA"), ("init", "until this process ends")]
)
def test_a_gpu_on_which_tensorrt_does_not_start_is_no_device(bundle, tmp_path, call, told):
    fake = fake_gpu(bundle)
    fake.fails_at = lambda name, number: name == call
    check = check_device(asked_of(bundle, fake, tmp_path))
    (line,) = named(check, "TensorRT on the GPU")
    assert (check.gpu, line.status) == (None, "failed")
    assert told in line.found
    assert line.remedy
    assert fake.alive == []


def test_too_little_memory_of_the_gpu_is_a_warning_with_the_remedy(bundle, tmp_path):
    fake = fake_gpu(bundle)
    fake.memory_bytes = 100 << 20
    check = check_device(asked_of(bundle, fake, tmp_path))
    (line,) = named(check, "GPU memory")
    assert (line.status, line.found) == ("warning", "100 MiB of 100")
    assert "end other programs" in line.remedy


def test_a_way_that_the_gpu_does_not_know_is_a_warning_and_the_others_are_measured(bundle, tmp_path):
    fake = fake_gpu(bundle)
    fake.fails_at = lambda name, number: name == "managed_empty"
    check = check_device(asked_of(bundle, fake, tmp_path))
    lines = named(check, "managed memory")
    assert [line.status for line in lines] == ["warning"] * 2
    assert all("managed_empty failed" in line.found and line.remedy for line in lines)
    assert check.measured["fp32"].fastest.memory in ("pinned", "mapped")
    assert fake.alive == fake.violations == []


def test_a_gpu_that_takes_no_inference_fails_in_every_way(bundle, tmp_path):
    fake = fake_gpu(bundle)
    fake.fails_at = lambda name, number: name == "execute_async_v3"
    check = check_device(asked_of(bundle, fake, tmp_path))
    assert {line.status for line in named(check, "memory with")} == {"failed"}
    assert check.measured["fp32"].fastest is None
    assert fake.alive == fake.violations == []


def test_graphs_that_cannot_be_captured_are_told_and_measured_without(bundle, tmp_path):
    fake = fake_gpu(bundle)
    fake.fails_at = lambda name, number: name == "cuStreamBeginCapture_v2"
    check = check_device(asked_of(bundle, fake, tmp_path))
    lines = named(check, "with CUDA graphs")
    assert all("of the graphs only none captured" in line.found for line in lines)
    assert len(lines) == 3


def positions(bundle, tmp_path) -> list[tuple[str, int]]:
    """Return the first and the last time of every call of a whole check, by its name."""
    fake = fake_gpu(bundle)
    check_device(asked_of(bundle, fake, tmp_path))
    places: dict[str, list[int]] = {}
    for number, call in enumerate(fake.calls):
        places.setdefault(call, []).append(number)
    return [(call, at) for call, ats in places.items() for at in sorted({ats[0], ats[-1]})]


def test_whichever_call_fails_once_the_check_ends_and_nothing_is_left_on_the_gpu(bundle, tmp_path, monkeypatch):
    answers = parity.reference(bundle, parity.examples_of(bundle, VARIANTS))
    monkeypatch.setattr(device_module, "reference", lambda *_: answers)
    failing = positions(bundle, tmp_path)
    assert len({call for call, _ in failing}) > 25
    for call, at in failing:
        fake = fake_gpu(bundle)
        fake.fails_at = lambda name, number, at=at: number == at
        check = check_device(asked_of(bundle, fake, tmp_path))
        assert check.lines, (call, at)
        assert fake.alive == [], (call, at)
        assert fake.executables == fake.graphs == fake.memory == {}, (call, at)
        assert fake.violations == [], (call, at)


def test_a_flight_is_flown_on_both_engines_and_judged(bundle, tmp_path):
    asked = asked_of(bundle, fake_gpu(bundle), tmp_path, seconds=0.2, fly=flown_as_asked)
    check = check_device(asked)
    assert [flight.flown for flight in check.flights] == ["onnxruntime", "tensorrt"]
    assert [line.status for line in named(check, "flight on")] == ["failed"] * 2  # it has no answers
    assert all("no answer" in line.found for line in named(check, "flight on"))


def test_a_flight_that_does_not_come_up_is_a_failed_line(bundle, tmp_path):
    def never(recording, bundle, options, beside):
        raise LinkError("the pipeline says nothing after 20 s: see its messages above")

    check = check_device(asked_of(bundle, fake_gpu(bundle), tmp_path, seconds=0.2, fly=never))
    lines = named(check, "flight on")
    assert [line.status for line in lines] == ["failed"] * 2
    assert lines[0].remedy == "see its messages above"


def test_rtx_stands_in_for_answers_and_times_but_is_not_flown(bundle, tmp_path):
    fake = fake_gpu(bundle)
    rtx = Platform(provider="tensorrt_rtx", version="1.7.1", facts=found(fake).gpu.platform.facts)
    asked = asked_of(bundle, fake, tmp_path, find=lambda: found(fake, rtx), build=None, seconds=0.2, fly=flown_as_asked)
    assert [flight.asked for flight in check_device(asked).flights] == ["onnxruntime"]


def test_progress_is_told_step_by_step(bundle, tmp_path):
    told = []
    asked = asked_of(bundle, fake_gpu(bundle), tmp_path, seconds=0.2, fly=flown_as_asked)
    check_device(asked, lambda: told.append(1))
    assert len(told) == asked.steps


def test_a_board_that_slowed_itself_down_meanwhile_is_named(bundle, tmp_path):
    later = {f"{HWMON}/hwmon3/oc3_event_cnt": "50"}
    boards = [ORIN_NANO_JETPACK_6, ORIN_NANO_JETPACK_6, {**ORIN_NANO_JETPACK_6, **later}]
    looks = iter([make_board(tmp_path / str(n), files) for n, files in enumerate(boards)])
    asked = asked_of(bundle, fake_gpu(bundle), tmp_path, look=lambda: read_board(next(looks), lambda words: None))
    (line,) = named(check_device(asked), "throttling")
    assert (line.status, line.found) == ("warning", "oc3 instantaneous over-current: 13 times")


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
    with pytest.raises(Exception, match="cannot be written"):
        write_report(tmp_path / "file", document)


def test_a_device_error_of_one_precision_leaves_the_others(bundle, tmp_path, monkeypatch):
    other, measure = with_precision(bundle, "int8"), device_module.measure

    def refuse_int8(gpu, plans, examples, expected, step):
        if "int8" in plans.precisions.values():
            raise DeviceError("deserialize_cuda_engine failed: iq: no: rebuild the plan")
        return measure(gpu, plans, examples, expected, step)

    monkeypatch.setattr(device_module, "measure", refuse_int8)
    check = check_device(asked_of(other, fake_gpu(bundle, "int8", 0.0), tmp_path))
    assert list(check.measured) == ["fp32"]
    (line,) = named(check, "plans in int8 on the GPU")
    assert (line.status, line.remedy) == ("failed", "rebuild the plan")
