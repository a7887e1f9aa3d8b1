"""Blocks are written again only when nobody looks at them any more."""

from pathlib import Path

import numpy as np

from edge.transport.block_pool import BlockPool
from edge.transport.sockets import Publisher, Subscriber

BYTES = 1 << 20


def test_a_block_that_is_free_is_handed_out_again() -> None:
    pool = BlockPool(BYTES)
    for _ in range(10):
        block = pool.take()
        assert block.shape == (BYTES,)
        del block
    assert len(pool) == 1


def test_a_block_is_in_use_as_long_as_there_is_any_view_on_it() -> None:
    pool = BlockPool(BYTES)
    block = pool.take()
    view = np.frombuffer(block[10:20].view(np.int16).data[2:], np.uint8)
    block[:] = 7
    del block
    other = pool.take()
    other[:] = 9
    assert view.tolist() == [7] * 6
    del view
    assert len(pool) == 2
    assert not np.shares_memory(pool.take(), other)
    assert len(pool) == 2


def test_a_block_is_in_use_while_a_socket_has_it(tmp_path: Path) -> None:
    pool = BlockPool(BYTES)
    with Publisher(f"ipc://{tmp_path}/s") as publisher, Subscriber(publisher.endpoint) as subscriber:
        assert publisher.wait_for_listeners(1, 5.0)
        for n in range(20):
            block = pool.take()
            block[:] = n
            publisher.send([block.data], keep=True)
            del block
        received = [subscriber.receive(5000) for _ in range(20)]
    assert [parts and (parts[0][0], parts[0][-1]) for parts in received] == [(n, n) for n in range(20)]
