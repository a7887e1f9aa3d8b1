"""What slows a board down is noticed in flight, and told no more once it is over."""

import dataclasses

from boards import PC, make_board

from edge.operations.board import Board, read_board
from edge.operations.heat import HeatWatch


def told(*boards: Board) -> list[str]:
    looks = iter(boards)
    watch = HeatWatch(lambda: next(looks))
    return [watch() for _ in boards[1:]]


def test_counters_are_told_when_they_grow_and_cooling_devices_while_they_are_on(tmp_path):
    board = dataclasses.replace(read_board(make_board(tmp_path, PC), lambda _: None), cooling_states={})
    hot = dataclasses.replace(board, cooling_states={"cpufreq-cpu0": 3, "thermal-devfreq-0": 1})
    counted = {name: count + 2 for name, count in board.throttle_events.items()}
    drawing = dataclasses.replace(board, throttle_events=counted)
    assert told(board, board, hot, hot, board, drawing, drawing) == [
        "",
        "cpufreq-cpu0 is on",
        "cpufreq-cpu0 is on",
        "",
        "processor cores too hot: 2 times",
        "",
    ]


def test_a_board_that_tells_nothing_is_not_hot(tmp_path):
    silent = read_board(make_board(tmp_path, {}), lambda _: None)
    assert told(silent, silent) == [""]
