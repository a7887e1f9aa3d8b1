"""A disk that is full for one process while `disk:full` lasts: the kernel lets it write nothing into any file."""

import logging
import os
import resource
import stat
import subprocess
import sys
import threading

from edge.faults.fault import DISK_FULL
from edge.faults.orders import Orders

log = logging.getLogger(__name__)

LOOK_S = 0.05
_STREAMS = (1, 2)
"""Descriptors of what is printed and logged."""


class FullDisk:
    """Takes the space away and gives it back, at its times. Use as a context, around what writes.

    What is printed and logged still arrives: where it goes into a file, another process writes it there.
    """

    def __init__(self, orders: Orders) -> None:
        """Take the faults of the flight; without such a one nothing happens."""
        self._orders = orders
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="full-disk", daemon=True)
        self._is_planned = any(fault.name == DISK_FULL for fault in orders.faults)
        self._printed: list[_Printed] = []

    def __enter__(self) -> "FullDisk":
        if self._is_planned:
            self._printed = [_Printed(number) for number in _STREAMS if stat.S_ISREG(os.fstat(number).st_mode)]
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_planned:
            self._stop.set()
            self._thread.join()
            for printed in self._printed:
                printed.close()

    def _watch(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        is_full = False
        while not self._stop.wait(LOOK_S):
            was_full, is_full = is_full, any(fault.name == DISK_FULL for fault in self._orders.on_now())
            if is_full and not was_full:
                log.warning("FAULT INJECTED: the disk is full for the recorder")
                resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
            elif was_full and not is_full:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
                log.warning("the fault is over: the disk has room again")
        if is_full:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class _Printed:
    """Lets another process, which no limit binds, write what this one prints."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._file = os.dup(number)
        read, write = os.pipe()
        self._writer = subprocess.Popen(["cat"], stdin=read, stdout=number)
        os.dup2(write, number)
        os.close(read)
        os.close(write)

    def close(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(self._file, self._number)
        os.close(self._file)
        self._writer.wait()
