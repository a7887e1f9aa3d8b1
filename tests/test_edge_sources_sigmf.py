import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import Received, kept_sender, virtual_pacer

from edge.clock import VirtualClock
from edge.sources.sdr_file import MIN_WINDOW_SAMPLES, play_recording, window_and_hop
from edge.sources.sigmf import check_digest, read_sigmf
from edge.transport.wire import FLAG_REPLAY, as_array
from models.errors import RecordingError

DTYPES = {"cu8": np.uint8, "ci8": np.int8, "ci16_le": np.int16, "cf32_le": np.float32}


def write_recording(folder: Path, samples: np.ndarray[Any, Any], datatype: str = "ci16_le", **meta: Any) -> Path:
    """Write a SigMF recording; `meta` replaces whole top-level sections."""
    (folder / "r.sigmf-data").write_bytes(samples.tobytes())
    document = {
        "global": {"core:datatype": datatype, "core:sample_rate": 1e6, "core:version": "1.2.0"},
        "captures": [{"core:sample_start": 0, "core:frequency": 433.92e6}],
        "annotations": [],
    } | meta
    path = folder / "r.sigmf-meta"
    path.write_text(json.dumps(document))
    return path


def numbered(samples: int) -> np.ndarray[Any, Any]:
    """Return samples whose I component is their number modulo 30000."""
    number = np.arange(samples) % 30_000
    return np.stack((number, -number), axis=1).astype(np.int16)


def play(path: Path, rate_hz: float, limit_s: float | None = None, *, loop: bool = False) -> Received:
    clock = VirtualClock(1_000_000_000)
    sender, messages = kept_sender(clock)
    play_recording(read_sigmf(path), rate_hz, sender, virtual_pacer(clock, limit_s=limit_s), loop=loop)
    return messages


@pytest.mark.parametrize("datatype", DTYPES)
def test_samples_come_out_as_they_were_written(tmp_path: Path, datatype: str) -> None:
    samples = np.random.default_rng(1).integers(0, 100, size=(1000, 2)).astype(DTYPES[datatype])
    recording = read_sigmf(write_recording(tmp_path, samples, datatype))
    np.testing.assert_array_equal(recording.samples, samples)
    assert recording.samples.dtype == DTYPES[datatype]
    assert (recording.sample_rate_hz, recording.centre_hz(10)) == (1e6, 433.92e6)


def test_the_data_file_may_be_named_instead_of_its_metadata(tmp_path: Path) -> None:
    path = write_recording(tmp_path, numbered(10))
    assert len(read_sigmf(path.with_suffix(".sigmf-data")).samples) == 10


def test_the_tuned_frequency_is_that_of_the_capture_a_sample_belongs_to(tmp_path: Path) -> None:
    captures = [
        {"core:sample_start": 50, "core:frequency": 2e6},
        {"core:sample_start": 0, "core:frequency": 1e6},
    ]
    recording = read_sigmf(write_recording(tmp_path, numbered(100), captures=captures))
    assert [recording.centre_hz(n) for n in (0, 49, 50, 99)] == [1e6, 1e6, 2e6, 2e6]


def test_annotations_are_kept(tmp_path: Path) -> None:
    notes = [{"core:sample_start": 3, "core:sample_count": 5, "core:label": "burst", "other:key": 1}]
    recording = read_sigmf(write_recording(tmp_path, numbered(10), annotations=notes))
    assert [(n.sample_start, n.sample_count, n.label) for n in recording.annotations] == [(3, 5, "burst")]


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (
            {"global": {"core:datatype": "rf32_le", "core:sample_rate": 1e6}},
            "'rf32_le', real samples, expected.*convert",
        ),
        ({"global": {"core:datatype": "cf16_le", "core:sample_rate": 1e6}}, "'cf16_le', expected.*convert"),
        ({"global": {"core:datatype": "ci16", "core:sample_rate": 1e6}}, "'ci16', expected.*with _le or _be"),
        ({"global": {"core:datatype": "ci16_le"}}, "core:sample_rate"),
        ({"global": {"core:datatype": "ci16_le", "core:sample_rate": 0}}, "core:sample_rate"),
        ({"global": {"core:datatype": "ci16_le", "core:sample_rate": "1e6"}}, "core:sample_rate"),
        ({"global": {"core:sample_rate": 1e6}}, "core:datatype"),
        ({"global": []}, "global"),
        ({"global": {"core:datatype": "ci16_le", "core:sample_rate": 1e6, "core:num_channels": 2}}, "one channel"),
        ({"global": {"core:datatype": "ci16_le", "core:sample_rate": 1e6, "core:dataset": "../x"}}, "core:dataset"),
        ({"global": {"core:datatype": "ci16_le", "core:sample_rate": 1e6, "core:dataset": "x"}}, "beside its metadata"),
        ({"captures": [{"core:sample_start": 0, "core:header_bytes": 8}]}, "without header"),
        ({"captures": []}, "captures is empty"),
        ({"captures": [{"core:sample_start": 100}]}, "sample 101, but the data end at 100"),
        ({"captures": [{"core:sample_start": -1}]}, "sample_start"),
        ({"annotations": [{"core:sample_start": 90, "core:sample_count": 11}]}, "sample 101, but the data end at 100"),
    ],
)
def test_metadata_that_do_not_fit_are_refused_with_the_reason(
    tmp_path: Path, meta: dict[str, Any], message: str
) -> None:
    path = write_recording(tmp_path, numbered(100), **meta)
    with pytest.raises(RecordingError, match=message):
        read_sigmf(path)


def test_data_that_do_not_fit_their_checksum_are_found(tmp_path: Path) -> None:
    digest = hashlib.sha512(numbered(100).tobytes()).hexdigest()
    head = {"core:datatype": "ci16_le", "core:sample_rate": 1e6, "core:sha512": digest.upper()}
    path = write_recording(tmp_path, numbered(100), **{"global": head})
    check_digest(path, read_sigmf(path))
    data = path.with_suffix(".sigmf-data")
    data.write_bytes(b"\x01" + data.read_bytes()[1:])
    with pytest.raises(RecordingError, match=r"core:sha512 is .* the data were changed or damaged"):
        check_digest(path, read_sigmf(path))


def test_samples_of_a_type_that_the_wire_lacks_are_played_converted(tmp_path: Path) -> None:
    head = {"core:datatype": "ci16_be", "core:sample_rate": 1e6}
    path = write_recording(tmp_path, numbered(10_000).astype(">i2"), **{"global": head})
    ((header, payload),) = play(path, 100.0)
    np.testing.assert_array_equal(as_array(header, payload), numbered(10_000))


def test_a_data_file_cut_within_a_sample_is_refused(tmp_path: Path) -> None:
    path = write_recording(tmp_path, numbered(100))
    data = path.with_suffix(".sigmf-data")
    data.write_bytes(data.read_bytes()[:-3])
    with pytest.raises(RecordingError, match=r"397 bytes, expected a positive multiple of 4 .*cut off"):
        read_sigmf(path)


def test_an_empty_data_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="0 bytes"):
        read_sigmf(write_recording(tmp_path, numbered(0)))


@pytest.mark.parametrize("suffix", [".sigmf-meta", ".sigmf-data"])
def test_an_absent_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = write_recording(tmp_path, numbered(10))
    path.with_suffix(suffix).unlink()
    with pytest.raises(RecordingError, match=rf"r\{suffix}: cannot be read"):
        read_sigmf(path)


@given(
    st.binary(max_size=200) | st.recursive(st.none() | st.integers(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_metadata_of_any_bytes_are_refused_without_another_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("sigmf") / "r.sigmf-meta"
    path.write_bytes(data)
    with pytest.raises(RecordingError, match="not SigMF metadata"):
        read_sigmf(path)


def test_deeply_nested_metadata_are_refused(tmp_path: Path) -> None:
    path = write_recording(tmp_path, numbered(10))
    path.write_text('{"global": ' + "[" * 100_000)
    with pytest.raises(RecordingError, match="not SigMF metadata"):
        read_sigmf(path)


@pytest.mark.parametrize(
    ("sample_rate_hz", "rate_hz", "expected"),
    [(2_000_000, 100, (20_000, 20_000)), (250_000, 50, (MIN_WINDOW_SAMPLES, 5_000)), (819_200, 100, (8192, 8192))],
)
def test_messages_keep_the_rate_and_hold_enough_samples(
    sample_rate_hz: float, rate_hz: float, expected: tuple[int, int]
) -> None:
    assert window_and_hop(sample_rate_hz, rate_hz) == expected


def test_a_recording_is_sent_whole_in_order_and_stamped_with_its_first_samples(tmp_path: Path) -> None:
    messages = play(write_recording(tmp_path, numbered(100_000)), 100.0)
    assert len(messages) == 10
    for n, (header, payload) in enumerate(messages):
        np.testing.assert_array_equal(as_array(header, payload), numbered(100_000)[n * 10_000 : (n + 1) * 10_000])
        assert header.capture_ns == 1_000_000_000 + n * 10_000_000
        assert 0 <= header.send_ns - (header.capture_ns + 10_000_000) <= 1
        assert (header.sample_rate_hz, header.centre_hz, header.sequence) == (1e6, 433.92e6, n)
        assert header.flags & FLAG_REPLAY


def test_where_a_period_is_short_messages_overlap_and_keep_the_rate(tmp_path: Path) -> None:
    messages = play(write_recording(tmp_path, numbered(20_000)), 500.0)
    firsts = [int(as_array(header, payload)[0, 0]) for header, payload in messages]
    assert firsts == [n * 2000 for n in range(6)]
    assert {header.dim0 for header, _ in messages} == {MIN_WINDOW_SAMPLES}
    assert [header.capture_ns for header, _ in messages] == [1_000_000_000 + n * 2_000_000 for n in range(6)]


def test_a_looping_recording_begins_again_while_time_and_sequence_go_on(tmp_path: Path) -> None:
    messages = play(write_recording(tmp_path, numbered(30_000)), 100.0, 0.0755, loop=True)
    firsts = [int(as_array(header, payload)[0, 0]) for header, payload in messages]
    assert firsts == [0, 10_000, 20_000, 0, 10_000, 20_000, 0]
    assert [header.capture_ns // 10_000_000 - 100 for header, _ in messages] == list(range(7))
    assert [header.sequence for header, _ in messages] == list(range(7))


def test_a_recording_shorter_than_a_message_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"8191 samples is shorter than a message of 8192.*raise"):
        play(write_recording(tmp_path, numbered(8191)), 500.0)


def test_every_real_recording_opens_and_plays(shared_data: Path) -> None:
    paths = sorted(shared_data.glob("*/**/*.sigmf-meta"))
    assert len(paths) >= 15
    for path in paths:
        recording = read_sigmf(path)
        rate_hz = max(30.0, recording.sample_rate_hz / 50_000)
        messages = play(path, rate_hz)
        window, hop = window_and_hop(recording.sample_rate_hz, rate_hz)
        assert len(messages) == (len(recording.samples) - window) // hop + 1
        assert messages[0][0].centre_hz > 400e6
        assert as_array(*messages[-1]).std() > 0
