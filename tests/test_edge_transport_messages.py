import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.transport.messages import (
    NO_DATA,
    TOPICS,
    Classification,
    Kind,
    Load,
    Message,
    ModalityAnswer,
    PipelineStatus,
    Pose,
    RecorderStatus,
    StreamAccounting,
    Truth,
    pack,
    unpack,
)
from models.errors import InputError

POSE = Pose(capture_ns=5, latitude_deg=47.1, longitude_deg=8.5, altitude_m=460.0, yaw_rad=1.25)
ANSWER = Classification(
    sequence=3,
    capture_ns=10,
    answer_ns=12,
    class_id=1,
    label="lake",
    confidence=0.75,
    probs=(0.25, 0.75),
    modalities=(
        ModalityAnswer(
            name="iq", stream="radio", mask=1.0, weight=1.0, entropy=0.5, class_id=1, confidence=0.75, capture_ns=10
        ),
        ModalityAnswer(name="image", mask=0.0, reason="black"),
    ),
    latency_ms={"total": 1.5},
    pose=POSE,
)
ACCOUNTING = StreamAccounting(
    received=14,
    processed=4,
    superseded=2,
    dropped_late=1,
    shed=1,
    gathered=3,
    restarted_windows=1,
    rejected={"bad_crc": 1, "black": 1},
    in_flight=1,
    lost_transport=7,
    state="live",
)
STATUS = PipelineStatus(
    time_ns=1, results=2, streams={"radio": ACCOUNTING}, model="demo", bundle_sha256="00", labels=("a", "b")
)


RECORDER = RecorderStatus(
    time_ns=1, free_bytes=2, pause="full", recorded={"radio": 3}, lost={"radio": 4}, refused={"radio": 5}
)


@pytest.mark.parametrize("message", [ANSWER, STATUS, POSE, Truth(capture_ns=1, class_id=0, label="lake"), RECORDER])
def test_messages_come_back_equal(message: Message) -> None:
    assert unpack(pack(message), type(message)) == message


@pytest.mark.parametrize("into", [Classification, PipelineStatus, Pose, Truth, RecorderStatus])
@given(data=st.binary(max_size=100))
def test_garbage_is_refused_with_one_kind_of_error(into: type[Classification], data: bytes) -> None:
    with pytest.raises(InputError, match=f"not a {into.__name__}"):
        unpack(data, into)


def test_a_message_of_another_kind_is_refused() -> None:
    with pytest.raises(InputError, match="not a Classification"):
        unpack(pack(POSE), Classification)


def test_a_cut_off_message_is_refused() -> None:
    data = pack(ANSWER)
    for size in range(len(data)):
        with pytest.raises(InputError, match="not a Classification"):
            unpack(data[:size], Classification)


def test_a_newer_sender_may_add_fields() -> None:
    data = msgspec.msgpack.encode(msgspec.to_builtins(POSE) | {"ground_speed_m_s": 3.0})
    assert unpack(data, Pose) == POSE


def test_a_status_from_before_messages_were_gathered_or_shed_is_read() -> None:
    newer = ("gathered", "restarted_windows", "shed")
    old = {key: value for key, value in msgspec.to_builtins(ACCOUNTING).items() if key not in newer}
    status = msgspec.to_builtins(STATUS) | {"streams": {"radio": old}}
    del status["load"]
    unpacked = unpack(msgspec.msgpack.encode(status), PipelineStatus)
    read = unpacked.streams["radio"]
    assert (read.gathered, read.restarted_windows, read.shed, read.received) == (0, 0, 0, 14)
    assert unpacked.load == Load()


def test_the_accounting_balances_exactly_when_every_message_has_a_fate() -> None:
    assert ACCOUNTING.balanced
    for name in ("received", "processed", "superseded", "dropped_late", "shed", "gathered", "in_flight"):
        off_by_one = msgspec.structs.replace(ACCOUNTING, **{name: getattr(ACCOUNTING, name) + 1})
        assert not off_by_one.balanced
    assert not msgspec.structs.replace(ACCOUNTING, rejected={"bad_crc": 1}).balanced


def test_only_a_class_is_an_answer() -> None:
    assert ANSWER.has_answer
    assert not msgspec.structs.replace(ANSWER, class_id=-1, label=NO_DATA, probs=()).has_answer


def test_every_kind_has_one_row_in_the_topic_table() -> None:
    assert set(TOPICS) == set(Kind)
    assert all(TOPICS[kind].kind == kind for kind in Kind)


@pytest.mark.parametrize(
    "data",
    [pack(Truth(capture_ns=1, class_id=0, label="lake")).replace(b"lake", b"\xff\xfe\xfd\xfc"), b"\x91" * 100_000],
    ids=["text that is none", "endless depth"],
)
def test_what_the_decoder_does_not_call_its_own_error_is_refused_as_well(data: bytes) -> None:
    with pytest.raises(InputError, match="not a Truth"):
        unpack(data, Truth)
