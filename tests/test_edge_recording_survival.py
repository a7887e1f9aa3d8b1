"""A short part of what the scripts beside this do at length: recorders killed, files with rotten bits."""

from pathlib import Path

import flip_bits
import pytest
import record_until_killed

from edge.recording.chunk_writer import CHUNK_BYTES


@pytest.mark.parametrize("after_s", [0.1, 0.6, 1.4])
def test_a_recorder_killed_at_any_moment_loses_at_most_its_open_chunk(tmp_path: Path, after_s: float) -> None:
    left = record_until_killed.kill_once(tmp_path, after_s)
    assert left.lost_bytes <= CHUNK_BYTES
    assert left.readable > 0 or left.taken * record_until_killed.WINDOW.nbytes <= CHUNK_BYTES


def test_rotten_bits_are_always_found_and_cost_no_chunk_that_they_did_not_hit(tmp_path: Path) -> None:
    result = flip_bits.run(tmp_path, 10, seed=7)
    assert (result.undetected, result.missing_messages, result.wrong_messages) == (0, 0, 0)
    assert result.untouched_chunks > 200
