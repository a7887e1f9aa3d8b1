"""Writes to a ring as fast as it can, in a process that is killed at a random moment, again and again.

    python ring_writers.py ENDPOINT ROUNDS MESSAGES

Each of ROUNDS processes sends the notes of at most MESSAGES messages to standard output, and is killed before it has
sent them all, unless it was faster. A message is one number of 8 bytes again and again, so that a torn one shows.
"""

import fcntl
import os
import random
import signal
import sys
import time

from edge.transport.ring import RingWriter

SLOTS, SLOT_BYTES = 4, 1 << 18
_F_SETPIPE_SZ = 1031
_PIPE_BYTES = 4096
"""Few notes wait, so that the reader is hardly behind."""


def write(endpoint: str, messages: int, round_: int, started: int) -> None:
    ring = RingWriter(endpoint, SLOTS, SLOT_BYTES)
    for n in range(messages):
        slot = ring.reserve(SLOT_BYTES - 8 * (n % 7))
        if slot is None:
            raise MemoryError
        slot.view[:] = (round_ * messages + n).to_bytes(8, "little") * (len(slot.view) // 8)
        os.write(1, ring.commit(slot))
        if n == 0:
            os.write(started, b"!")


def main(endpoint: str, rounds: int, messages: int) -> None:
    fcntl.fcntl(1, _F_SETPIPE_SZ, _PIPE_BYTES)
    has_started, started = os.pipe()
    for round_ in range(rounds):
        child = os.fork()
        if child == 0:
            write(endpoint, messages, round_, started)
            os._exit(0)
        if rounds > 1:
            os.read(has_started, 1)
            time.sleep(random.uniform(0.0, 0.02))
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
