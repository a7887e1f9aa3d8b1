"""Keeps what was inferred when, so that exact replay can do the same again."""

from edge.pipeline.scheduler import Arrival
from edge.transport.messages import Inference, Trace


class Tracer:
    """Collects the inferences of a flight between two publications. Not thread-safe: the caller serialises."""

    def __init__(self, start_ns: int) -> None:
        """Begin with nothing inferred at a time."""
        self._since_ns = start_ns
        self._inferences: list[Inference] = []

    def note(self, arrival: Arrival, done_ns: int) -> None:
        """Take a message whose outcome was accounted for at a time."""
        header = arrival.header
        inference = Inference(
            stream=arrival.stream,
            epoch=header.epoch,
            sequence=header.sequence,
            arrived_ns=arrival.arrived_ns,
            taken_ns=arrival.taken_ns,
            done_ns=done_ns,
        )
        self._inferences.append(inference)

    def collect(self, now_ns: int) -> Trace:
        """Return what was noted since the last time, and begin anew."""
        trace = Trace(since_ns=self._since_ns, time_ns=now_ns, inferences=tuple(self._inferences))
        self._since_ns, self._inferences = now_ns, []
        return trace
