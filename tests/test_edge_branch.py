"""What a branch takes by the header alone, and when its content counts as captured."""

import math
import time

import numpy as np
import pytest

from edge.backends.onnx import load_engines
from edge.clock import SystemClock
from edge.config import StreamConfig
from edge.pipeline.alignment import Feature
from edge.pipeline.branch import Branch
from edge.pipeline.framing import Gathered
from edge.pipeline.scheduler import Arrival
from edge.transport.messages import Kind
from edge.transport.wire import Reason, Stamp, decode_message, encode_array, encode_bytes
from models.bundle import open_bundle, shipped_bundle

RATE_HZ = 1_000_000.0


@pytest.fixture(scope="module")
def branches() -> dict[str, Branch]:
    bundle = open_bundle(shipped_bundle())
    engines, clock = load_engines(bundle), SystemClock()
    stream = StreamConfig(modality="iq", endpoint="ipc:///tmp/unused", rate_hz=1.0)
    return {one.name: Branch(one, engines.branches[one.name], clock, stream) for one in bundle.spec.modalities}


def radio_message(samples: int, rate_hz: float = RATE_HZ, capture_ns: int = 1000):
    array = np.ones((samples, 2), np.int16)
    return decode_message(encode_array(Kind.IQ, Stamp(1, 1, 1, capture_ns, time.monotonic_ns(), 0, rate_hz), array))


def test_a_message_of_one_window_is_captured_when_its_header_says(branches):
    assert branches["iq"].admit(radio_message(4096))[0].capture_ns == 1000


def test_a_long_message_is_captured_when_its_newest_window_begins(branches):
    header, payload = branches["iq"].admit(radio_message(4096 + 500))
    assert header.capture_ns == 1000 + 500_000
    assert len(payload) == (4096 + 500) * 4


@pytest.mark.parametrize("rate_hz", [math.nan, math.inf, 0.0, -1e6, 2e6])
def test_any_other_sample_rate_is_refused(branches, rate_hz):
    assert branches["iq"].admit(radio_message(4096, rate_hz)) is Reason.SAMPLE_RATE


def test_a_message_shorter_than_a_window_is_gathered_and_one_without_samples_refused(branches):
    assert branches["iq"].admit(radio_message(4095))[1] is Gathered.KEPT
    assert branches["iq"].admit(radio_message(0)) is Reason.SHORT_WINDOW


def test_each_branch_takes_its_own_kinds_only(branches):
    frame = decode_message(encode_bytes(Kind.ENCODED_FRAME, Stamp(1, 1, 1, 1, 1), b"x"))
    assert branches["image"].admit(frame) == frame
    assert branches["iq"].admit(frame) is Reason.KIND
    assert branches["image"].admit(radio_message(4096)) is Reason.KIND


def test_a_message_whose_feature_is_not_finite_is_refused_and_the_next_one_is_taken(branches, monkeypatch):
    window = np.random.default_rng(0).normal(0, 1000, (4096, 2)).astype(np.int16)
    message = decode_message(encode_array(Kind.IQ, Stamp(1, 1, 1, 1000, time.monotonic_ns(), 0, RATE_HZ), window))
    arrival = Arrival(stream="radio", header=message[0], payload=message[1], arrived_ns=0)
    with monkeypatch.context() as broken:
        broken.setattr("edge.pipeline.branch.preprocess", lambda data, recipe, out, _: out.fill(np.nan))
        assert branches["iq"].process(arrival) is Reason.ENGINE
    assert isinstance(branches["iq"].process(arrival), Feature)


def test_a_refusal_stays_a_refusal(branches):
    assert branches["iq"].admit(Reason.CRC) is Reason.CRC
