"""What the processes of a live replay are told of the faults that befall it: as in `uav-edge run`, in real time."""

from pathlib import Path

from edge.faults.injector import FaultPlan
from edge.faults.orders import write_orders
from edge.operations.supervisor import MAVLINK
from edge.transport.messages import Injected


class ReplayedFaults:
    """The orders of one replay, so that every status and every link says that it is a test."""

    def __init__(self, plan: FaultPlan, rate: float, folder: Path) -> None:
        """Write them, where there are faults.

        Args:
            plan: faults, at the times of the recorded flight.
            rate: times real time at which it is flown.
            folder: of this flight alone.
        """
        self._path = folder / "faults.json"
        faults = tuple(str(fault.at_rate(rate)) for fault in plan.faults)
        self._injected = Injected(faults=faults, seed=plan.seed)
        if faults:
            write_orders(self._path, self._injected)

    def told(self, commands: dict[str, list[str]], *, is_vehicle_safe: bool) -> dict[str, list[str]]:
        """Return the commands of the processes, with what those must know; without faults nothing."""
        return with_orders(commands, self._path, is_vehicle_safe=is_vehicle_safe) if self._injected.faults else commands

    def begin(self, begin_ns: int) -> None:
        """Tell when the flight has begun."""
        if self._injected.faults:
            injected = Injected(faults=self._injected.faults, seed=self._injected.seed, begin_ns=begin_ns)
            write_orders(self._path, injected)


def with_orders(commands: dict[str, list[str]], path: Path, *, is_vehicle_safe: bool) -> dict[str, list[str]]:
    """Return the commands of a flight's processes, with what those must know that faults befall.

    Args:
        commands: by the name of the process.
        path: of the orders.
        is_vehicle_safe: whether an autopilot that is not armed may hear of the faults.
    """
    options = {name: ["--faults", str(path)] for name in commands}
    if MAVLINK in commands and is_vehicle_safe:
        options[MAVLINK].append("--faults-reach-vehicle")
    return {name: [*command, *options[name]] for name, command in commands.items()}
