"""What people see on the terminal while it flies."""

import io

import mavlink_samples as samples
from rich.console import Console

from edge.operations.live_view import LiveView
from edge.transport.messages import Load, PipelineStatus


def drawn(status: PipelineStatus | None) -> str:
    view, output = LiveView(), io.StringIO()
    view.note(samples.answer())
    Console(file=output, width=100).print(*view._draw(status))
    return output.getvalue()


def test_each_sensor_is_shown_with_the_stream_that_its_input_came_on():
    assert "live front" in drawn(samples.status())


def test_what_is_shed_is_shown_as_long_as_it_is():
    load = Load(level=1, name="image every 2nd", why="the board slows down: oc1")
    assert "shed: image every 2nd: the board slows down: oc1" in drawn(samples.status(load=load))
    assert "shed" not in drawn(samples.status())
    assert "shed" not in drawn(None)
