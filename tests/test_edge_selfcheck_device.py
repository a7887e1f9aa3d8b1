"""The check of a device on a fake GPU: what it finds, what it says where something is wrong, what it leaves behind."""

import threading

import pytest
from boards import HWMON, ORIN_NANO_JETPACK_6, make_board
from selfchecking import ROLES, asked_of, fake_gpu, flown_as_asked, found, rounded, store_plans, with_precision

from edge.backends.cuda import MEMORY_MODES
from edge.backends.plan_key import Platform
from edge.backends.trt import TrtDevice
from edge.operations.board import read_board
from edge.selfcheck import device as device_module
from edge.selfcheck import measuring, parity
from edge.selfcheck.device import check_device
from edge.selfcheck.gpu import Found
from edge.selfcheck.line import Line, worst
from edge.selfcheck.patience import THREAD
from models.bundle import Bundle, open_bundle, shipped_bundle
from models.errors import LinkError

VARIANTS = 2
PATIENCE_S = 20.0


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
    assert first.found.startswith("built now; before: iq: ")
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


@pytest.mark.slow
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


def test_plans_that_cannot_be_loaded_leave_the_other_precisions(bundle, tmp_path):
    check = check_device(asked_of(with_precision(bundle, "int8"), fake_gpu(bundle), tmp_path))
    assert list(check.measured) == ["fp32"]
    (line,) = named(check, "plans in int8 on the GPU")
    assert line.status == "failed"
    assert "deserialize_cuda_engine failed: iq: Serialization assertion failed" in line.found
    assert "rebuild the plan" in line.remedy


def test_a_gpu_that_hangs_is_named_with_the_way_and_what_was_found_before_is_kept(bundle, tmp_path, monkeypatch):
    may_go_on, place = threading.Event(), TrtDevice.place

    def place_or_hang(device, mode, as_graphs=True):
        if mode == "managed":
            may_go_on.wait(PATIENCE_S)
        place(device, mode, as_graphs)

    monkeypatch.setattr(TrtDevice, "place", place_or_hang)
    fake = fake_gpu(bundle)
    asked = asked_of(bundle, fake, tmp_path, seconds=0.2, fly=flown_as_asked, patience_s=3.0)
    check = check_device(asked)
    (line,) = named(check, "plans in fp32 on the GPU")
    assert line.name.endswith("managed memory without CUDA graphs")
    assert line.found == "the GPU did not answer within 3 s"
    assert [way.memory for way in check.measured["fp32"].ways] == ["pinned", "pinned", "mapped", "mapped"]
    assert [flight.asked for flight in check.flights] == ["onnxruntime"]
    (left,) = [thread for thread in threading.enumerate() if thread.name == THREAD]
    may_go_on.set()
    left.join(PATIENCE_S)
    assert fake.alive == fake.violations == []
