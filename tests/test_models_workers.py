"""Work in processes of this machine, some of which are killed."""

import os
import signal
from pathlib import Path

import pytest

from models.errors import DeviceError, InputError
from models.workers import in_processes


def double(number: int) -> int:
    return 2 * number


def double_or_die(number: int) -> int:
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def double_the_second_time(mark: str) -> int:
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 2


def refuse(number: int) -> int:
    raise InputError(f"{number} is odd")


def dead(number: object) -> int:
    return -1


def test_every_task_has_its_result() -> None:
    assert sorted(in_processes(double, range(5), 2)) == [0, 2, 4, 6, 8]


def test_a_task_that_kills_its_process_is_found_and_the_others_are_done() -> None:
    assert sorted(in_processes(double_or_die, [1, -3, 2, -5, 4, 7], 2, dead)) == [-1, -1, 2, 4, 8, 14]


def test_one_process_that_is_killed_does_not_take_this_one() -> None:
    assert list(in_processes(double_or_die, [-3, 1], 1, dead)) == [-1, 2]


def test_a_task_whose_process_is_killed_once_is_done_again(tmp_path: Path) -> None:
    assert list(in_processes(double_the_second_time, [str(tmp_path / "mark")], 1, dead)) == [2]


def test_a_process_that_is_killed_ends_all_where_nothing_stands_for_its_task() -> None:
    with pytest.raises(DeviceError, match="one of 1 processes was killed"):
        list(in_processes(double_or_die, [-3, 1], 1))


def test_what_a_task_raises_is_raised_here() -> None:
    with pytest.raises(InputError, match="1 is odd"):
        list(in_processes(refuse, [1], 1, dead))
