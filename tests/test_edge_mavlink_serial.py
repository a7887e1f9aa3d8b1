"""Serial links: whole frames, unplugged and back, and what is refused, on a pseudo-terminal."""

import errno
import os
import pty
import sys
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from edge.clock import VirtualClock
from edge.mavlink.network.link import open_link
from edge.mavlink.ports import serial_port
from edge.mavlink.ports.backoff import BACKOFF_NS, JITTER
from edge.mavlink.ports.serial_port import MAX_BACKLOG_BYTES, STUCK_NS, SerialPort
from edge.mavlink.ports.transport import SerialAddress
from models.errors import LinkError

FRAME = b"\xfd" + bytes(19)
LONGEST_PAUSE_NS = round(BACKOFF_NS[-1] * (1 + JITTER))
PATIENCE_S = 30


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1_000_000_000)


class Terminal:
    """The other end of a serial line."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ttyTEST"
        self.connect()

    def connect(self) -> None:
        self.master, slave = pty.openpty()
        tty.setraw(self.master)
        os.set_blocking(self.master, False)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(slave))
        self.slave = slave

    def unplug(self) -> None:
        os.close(self.slave)
        os.close(self.master)
        self.path.unlink()

    def read(self) -> bytes:
        try:
            return os.read(self.master, 65_536)
        except BlockingIOError:
            return b""


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    pytest.importorskip("serial", reason="needs pyserial, the extra [serial]")
    line = Terminal(tmp_path)
    yield line
    os.close(line.slave)
    os.close(line.master)


@pytest.fixture
def port(terminal: Terminal, clock: VirtualClock) -> Iterator[SerialPort]:
    opened = SerialPort("serial", SerialAddress(device=str(terminal.path), baud=115_200), clock)
    yield opened
    opened.close()


def test_a_serial_port_sends_and_receives(terminal: Terminal, port: SerialPort) -> None:
    port.send(FRAME)
    os.write(terminal.master, b"from the autopilot")

    port.wait(5)
    assert [data for _, data in port.receive()] == [b"from the autopilot"]
    assert terminal.read() == FRAME
    assert port.receive() == []


def test_a_slow_serial_port_drops_whole_frames_and_never_a_part(terminal: Terminal, port: SerialPort) -> None:
    frames = [bytes([number % 256]) * 200 for number in range(400)]
    for frame in frames:
        port.send(frame)
    received = b""
    while piece := terminal.read():
        received += piece
        port.receive()

    assert port.counts.frames_dropped > 0
    assert port.counts.frames_sent + port.counts.frames_dropped == 400
    assert received == b"".join(frames[: port.counts.frames_sent])
    assert len(received) > MAX_BACKLOG_BYTES


def until_open(port: SerialPort, clock: VirtualClock) -> None:
    """Let the pause pass, and wait for the port, which is opened in a thread."""
    clock.advance_to(clock.now_ns() + LONGEST_PAUSE_NS)
    deadline_s = time.monotonic() + PATIENCE_S
    while not port.is_open:
        assert time.monotonic() < deadline_s, "waited too long"
        port.receive()
        port._opening.wait(0.05)


def until_tried(port: SerialPort, clock: VirtualClock) -> None:
    """Let the pause pass, and an attempt to open the port fail."""
    clock.advance_to(clock.now_ns() + LONGEST_PAUSE_NS)
    port.receive()
    port._opening.wait(PATIENCE_S)
    port.receive()


def test_an_unplugged_serial_port_is_opened_again_when_it_is_back(
    terminal: Terminal, port: SerialPort, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    terminal.unplug()
    port.send(FRAME)
    assert port.receive() == []
    until_tried(port, clock)
    port.send(FRAME)
    terminal.connect()
    port.send(FRAME)
    while_waiting = terminal.read()
    until_open(port, clock)
    port.send(FRAME)

    assert while_waiting == b""
    assert terminal.read() == FRAME
    assert [record.message.split(":")[0] for record in caplog.records] == ["link serial", "link serial"]
    assert "lost" in caplog.records[0].message
    assert "open now" in caplog.records[1].message


def test_a_serial_port_that_comes_late_is_told_of_with_the_remedy_and_waited_for(
    terminal: Terminal, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    terminal.unplug()
    link = open_link(f"serial:{terminal.path}:57600", 1, 191, clock)
    port = cast(SerialPort, link.transport)
    for _ in range(3):
        until_tried(port, clock)
    told = [record.message for record in caplog.records]
    terminal.connect()
    until_open(port, clock)
    port.send(FRAME)

    assert len(told) == 1
    assert "plug it in" in told[0]
    assert terminal.read() == FRAME
    assert "open now" in caplog.records[-1].message
    link.close()


def test_a_serial_port_in_use_is_told_of_with_the_remedy_and_taken_when_it_is_free(
    terminal: Terminal, port: SerialPort, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    other = SerialPort("other", SerialAddress(device=str(terminal.path), baud=57_600), clock)
    until_tried(other, clock)
    assert not other.is_open
    port.close()
    until_open(other, clock)

    assert ["another program uses it" in record.message for record in caplog.records] == [True, False]
    other.close()


def test_a_serial_port_that_may_not_be_opened_is_told_of_with_the_remedy(
    terminal: Terminal, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("serial.serialposix.os.open", refuse)
    port = SerialPort("serial", SerialAddress(device=str(terminal.path), baud=57_600), clock)
    monkeypatch.undo()

    assert not port.is_open
    assert ["usermod -aG dialout" in record.message for record in caplog.records] == [True]
    until_open(port, clock)
    port.close()


def test_what_waited_for_a_reader_that_hung_is_thrown_away(
    terminal: Terminal, port: SerialPort, clock: VirtualClock
) -> None:
    frames = [number.to_bytes(2, "big") * 100 for number in range(1000)]
    for frame in frames:
        port.send(frame)
    clock.advance_to(clock.now_ns() + STUCK_NS + 1)
    port.receive()
    received = b""
    while piece := terminal.read():
        received += piece
        port.receive()
    port.send(b"new")

    assert len(received) < 200 * port.counts.frames_sent - MAX_BACKLOG_BYTES
    assert terminal.read() == b"new"


def test_a_port_that_hangs_while_it_is_opened_holds_nobody_up(
    terminal: Terminal, port: SerialPort, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, goes_on = threading.Event(), threading.Event()
    wait_and_open = serial_port._open

    def hang(device: str, baud: int) -> Any:
        hangs.set()
        assert goes_on.wait(PATIENCE_S)
        return wait_and_open(device, baud)

    monkeypatch.setattr(serial_port, "_open", hang)
    port.reopen()
    clock.advance_to(clock.now_ns() + LONGEST_PAUSE_NS)
    assert port.receive() == []
    assert hangs.wait(PATIENCE_S)
    port.send(FRAME)
    assert not port.is_open
    goes_on.set()
    until_open(port, clock)


def test_what_is_no_serial_device_is_refused(tmp_path: Path, clock: VirtualClock) -> None:
    pytest.importorskip("serial", reason="needs pyserial, the extra [serial]")
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(LinkError, match="is no serial device"):
        open_link(f"serial:{tmp_path}/file:57600", 1, 191, clock)


def test_a_missing_pyserial_is_named_with_the_extra_that_brings_it(
    clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)

    with pytest.raises(LinkError, match=r"pip install 'uav-fusion-edge\[serial\]'"):
        open_link("serial:/dev/ttyUSB0:57600", 1, 191, clock)


def test_an_adapter_that_comes_back_as_another_device_is_found_by_its_own_name(
    terminal: Terminal, clock: VirtualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = tmp_path / "by-id"
    names.mkdir()
    (names / "usb-autopilot").symlink_to(os.ttyname(terminal.slave))
    monkeypatch.setattr("edge.mavlink.ports.serial_port.STABLE_NAMES", names)
    port = SerialPort("serial", SerialAddress(device=os.ttyname(terminal.slave), baud=115_200), clock)
    before = os.ttyname(terminal.slave)
    keep = pty.openpty()  # takes the number that is free when the old one goes
    terminal.unplug()
    assert port.receive() == []
    again = pty.openpty()
    terminal.connect()
    (names / "usb-autopilot").unlink()
    (names / "usb-autopilot").symlink_to(os.ttyname(terminal.slave))
    until_open(port, clock)
    port.send(FRAME)

    assert os.ttyname(terminal.slave) != before
    assert terminal.read() == FRAME
    port.close()
    for descriptor in (*keep, *again):
        os.close(descriptor)
