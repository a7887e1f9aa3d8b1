"""A ring of slots in shared memory, for payloads too large for a socket: raw frames, long blocks of I/Q.

The writer fills a slot, or lets a camera fill it, and sends a note of NOTE_BYTES over the stream's socket. Readers look
at the slot in place. Nobody waits: a slow reader's slot is written again, which it finds out by the slot's generation,
odd while the slot is being written (a seqlock). What was read from a slot counts only if `Loan.is_intact` says so
afterwards.

One file in FOLDER holds a ring. It belongs to one run of one writer, is locked as long as that lives, can be read by
its user alone, and never changes its size, because looking behind a file's end kills a process. A restarted writer
makes another file and removes what the dead left there.
"""

import contextlib
import fcntl
import hashlib
import logging
import mmap
import os
import secrets
import stat
import struct
import threading
from collections import deque
from pathlib import Path
from typing import NamedTuple

from edge.transport.wire import Header, Reason
from models.errors import DeviceError, LinkError

log = logging.getLogger(__name__)

FOLDER = Path("/dev/shm")
MIN_SLOTS, MAX_SLOTS = 4, 62
"""One is being written, one is the newest, one is being read, one may wait; the table of slots is one page."""
MAX_SLOT_BYTES = 1 << 30
NOTE_BYTES = 24
_PAGE = 4096
_MAGIC = b"UAVRING\x01"
_CONTROL = struct.Struct("<8sQQQ")
"""Magic, instance, slots, bytes of a slot. The table begins at byte 64: generation and size, a cache line a slot."""
_NOTE = struct.Struct("<QQII")
"""Instance, generation, slot, bytes."""
_TABLE, _ROW = 8, 8
"""In words of 8 bytes."""

Buffer = bytes | memoryview


class Slot(NamedTuple):
    """A slot that its writer owns until it commits or cancels it."""

    number: int
    view: memoryview


class RingWriter:
    """Makes a ring for an endpoint, and writes to it. `reserve` and `commit` may be called from different threads."""

    def __init__(self, endpoint: str, slots: int, slot_bytes: int, folder: Path = FOLDER) -> None:
        """Make the ring; its memory is taken as messages need it, and stays taken.

        Args:
            endpoint: of the stream; readers find the ring by it.
            slots: MIN_SLOTS to MAX_SLOTS.
            slot_bytes: largest payload.
            folder: in memory.
        Raises:
            DeviceError: no such folder, or not that much memory left in it.
            LinkError: another process writes to this endpoint's ring.
        """
        if not (MIN_SLOTS <= slots <= MAX_SLOTS and 0 < slot_bytes <= MAX_SLOT_BYTES):
            raise ValueError(f"{slots} slots of {slot_bytes} bytes")
        self._endpoint = endpoint
        self._slot_bytes = -(-slot_bytes // _PAGE) * _PAGE
        self._size = _PAGE + slots * self._slot_bytes
        self._held = [0] * slots
        """Bytes of each slot that have memory behind them: writing to others would kill us if there were none left."""
        self._free = deque(range(slots))
        """Oldest content first."""
        self._is_full = False
        self._fence = _Fence()
        self.instance = secrets.randbits(64)
        self._path = _path(endpoint, self.instance, folder)
        remove_dead_rings(folder)
        try:
            self._file = self._create(folder)
            self._map = mmap.mmap(self._file, self._size)
            self._words = memoryview(self._map)[:_PAGE].cast("Q")
            _CONTROL.pack_into(self._map, 0, _MAGIC, self.instance, slots, self._slot_bytes)
            # With a folder's descriptor Python follows the link, without one it does not. The path being absolute,
            # nobody looks at which folder that is.
            os.link(f"/proc/self/fd/{self._file}", self._path, src_dir_fd=self._file, follow_symlinks=True)
        except OSError as error:
            raise DeviceError(
                f"{endpoint}: no shared memory in {folder} ({error.strerror}): make it writable for this user, or set"
                " transport: socket"
            ) from error
        self._refuse_second_writer(folder)

    def reserve(self, nbytes: int) -> Slot | None:
        """Return a slot to be filled, or None where the memory or the slots are used up. Readers of it lose it now."""
        if nbytes > self._slot_bytes:
            raise ValueError(f"{nbytes} bytes for a slot of {self._slot_bytes}")
        try:
            number = self._free.popleft()
        except IndexError:
            return None
        start = _PAGE + number * self._slot_bytes
        if nbytes > self._held[number] and not self._take_memory(number, start, nbytes):
            self._free.appendleft(number)
            return None
        self._words[_TABLE + _ROW * number] |= 1
        self._fence()
        return Slot(number, memoryview(self._map)[start : start + nbytes])

    def commit(self, slot: Slot) -> bytes:
        """Give a filled slot to the readers; return the note that tells them."""
        row = _TABLE + _ROW * slot.number
        generation = self._words[row] + 1
        self._words[row + 1] = len(slot.view)
        self._fence()
        self._words[row] = generation
        self._free.append(slot.number)
        return _NOTE.pack(self.instance, generation, slot.number, len(slot.view))

    def cancel(self, slot: Slot) -> None:
        """Take back a slot that will not be sent; it is the next one to be reserved."""
        self._free.appendleft(slot.number)

    def close(self) -> None:
        """Remove the ring's file; its memory goes when the last reader lets go of it."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self._free.clear()
        file, self._file = self._file, -1
        os.close(file)

    def _create(self, folder: Path) -> int:
        """Return a locked file without a name: nobody sees it before it is whole."""
        free = free_bytes(folder)
        if free < self._size:
            raise DeviceError(
                f"{self._endpoint}: a ring of {self._size >> 20} MiB does not fit into the"
                f" {free >> 20} MiB left in {folder}: lower shm_slots or max_message_bytes,"
                " make room there (docker run --shm-size), or set transport: socket"
            )
        file = os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(file, self._size)
            os.posix_fallocate(file, 0, _PAGE)
            os.fchmod(file, 0o400)  # nobody truncates it by mistake
        except OSError:
            os.close(file)
            raise
        return file

    def _take_memory(self, number: int, start: int, nbytes: int) -> bool:
        try:
            os.posix_fallocate(self._file, start, nbytes)
        except OSError as error:
            if not self._is_full:
                log.warning("%s: shared memory is used up (%s): sent by socket", self._endpoint, error.strerror)
            self._is_full = True
            return False
        self._held[number] = nbytes
        return True

    def _refuse_second_writer(self, folder: Path) -> None:
        others = [path for path in _rings(folder, self._endpoint) if path != self._path]
        if others:  # the dead ones are gone
            self.close()
            raise LinkError(f"{self._endpoint}: {others[0]} is written by another process: stop that one")


class Loan:
    """A payload in a slot, looked at in place. What was made of it counts only if `is_intact` holds afterwards."""

    __slots__ = ("_generation", "_ring", "_row", "view")

    def __init__(self, ring: "_Mapped", row: int, generation: int, view: memoryview) -> None:
        self._ring = ring
        self._row = row
        self._generation = generation
        self.view = view
        """(bytes,), read-only; valid as long as it is held, whatever becomes of the writer."""

    def is_intact(self) -> bool:
        """Say whether nothing has been written to the slot since the note was sent."""
        self._ring.fence()
        return self._ring.words[self._row] == self._generation


class RingReader:
    """Finds the payloads that notes tell of. Never raises on what a note says, only names a reason."""

    def __init__(self, endpoint: str, folder: Path = FOLDER) -> None:
        self._endpoint = endpoint
        self._folder = folder
        self._mapped: _Mapped | None = None

    def borrow(self, header: Header, note: Buffer) -> Loan | Reason:
        """Return the payload of a message, which may be overwritten by now, or why there is none."""
        if len(note) != NOTE_BYTES or header.dtype == 0:
            return Reason.NOTE
        instance, generation, slot, size = _NOTE.unpack(note)
        if size != header.payload_bytes:
            return Reason.NOTE
        mapped = self._mapped
        if mapped is None or mapped.instance != instance:
            mapped = _open(_path(self._endpoint, instance, self._folder), instance)
            if mapped is None:
                return Reason.RING
            self._mapped = mapped
        return mapped.loan(slot, generation, size)

    def close(self) -> None:
        """Let go of the memory; loans keep what they need."""
        self._mapped = None


class _Mapped:
    """A ring as a reader sees it."""

    def __init__(self, file: mmap.mmap, instance: int, slots: int, slot_bytes: int) -> None:
        self.instance = instance
        self.words = memoryview(file)[:_PAGE].cast("Q")
        self.fence = _Fence()
        self._file = file
        self._data = memoryview(file)
        self._slots = slots
        self._slot_bytes = slot_bytes
        self._size = len(file)

    def loan(self, slot: int, generation: int, size: int) -> Loan | Reason:
        if slot >= self._slots or size > self._slot_bytes or generation & 1:
            return Reason.NOTE
        if self._file.size() != self._size:
            return Reason.RING
        row, start = _TABLE + _ROW * slot, _PAGE + slot * self._slot_bytes
        loan = Loan(self, row, generation, self._data[start : start + size])
        has_size = self.words[row + 1] == size
        if self.words[row] < generation or (not has_size and loan.is_intact()):
            return Reason.NOTE
        return loan


class _Fence:
    """Keeps what is read and written before it apart from what comes after, on Arm, too, which reorders both.

    Python has no memory barrier, but a lock that is released and taken again is one.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            pass
        with self._lock:
            pass


def free_bytes(folder: Path = FOLDER) -> int:
    """Return the memory that is left for rings.

    Raises:
        OSError: there is no such folder.
    """
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize


def remove_dead_rings(folder: Path = FOLDER) -> None:
    """Remove this user's rings whose writers are gone, of whatever endpoint."""
    for path in _rings(folder):
        with contextlib.suppress(OSError):  # gone meanwhile, or locked by its writer
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(file)


def _rings(folder: Path, endpoint: str | None = None) -> list[Path]:
    """Return this user's rings, of all endpoints or of one; anybody may choose such a name, but not our user id."""
    found = []
    for path in folder.glob(f"{_prefix(endpoint)}*"):
        with contextlib.suppress(FileNotFoundError):
            found += [path] if path.lstat().st_uid == os.geteuid() else []
    return found


def _prefix(endpoint: str | None = None) -> str:
    """Return how the names of this user's rings begin, of all or of one endpoint."""
    digest = hashlib.sha256(endpoint.encode()).hexdigest()[:16] + "." if endpoint is not None else ""
    return f"uav-edge-ring-{os.geteuid()}-{digest}"


def _path(endpoint: str, instance: int, folder: Path) -> Path:
    return folder / f"{_prefix(endpoint)}{instance:016x}"


def _open(path: Path, instance: int) -> _Mapped | None:
    """Map a ring, or return None where there is none that we may trust to be one."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.fstat(file)
        is_ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
        control = os.pread(file, _CONTROL.size, 0) if is_ours else b""
        if len(control) != _CONTROL.size:
            return None
        magic, its_instance, slots, slot_bytes = _CONTROL.unpack(control)
        is_sound = magic == _MAGIC and its_instance == instance and 0 < slots <= MAX_SLOTS
        if not is_sound or slot_bytes > MAX_SLOT_BYTES or _PAGE + slots * slot_bytes != found.st_size:
            return None
        return _Mapped(mmap.mmap(file, found.st_size, access=mmap.ACCESS_READ), instance, slots, slot_bytes)
    except (OSError, ValueError):
        return None
    finally:
        os.close(file)
