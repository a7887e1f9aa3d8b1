"""What is asked of a flight while it is played, from whatever thread: pause, step, another rate, an end."""

import enum
import threading

FASTEST, SLOWEST = 100.0, 0.01
_FACTORS = {"faster": 2.0, "slower": 0.5}


class Command(enum.Enum):
    """Something to ask."""

    PAUSE = "pause"
    """Or go on."""
    STEP = "step"
    """Pause; if it does, go on to the next message of the slowest stream."""
    FASTER = "faster"
    SLOWER = "slower"
    STOP = "stop"


class Controls:
    """What was asked so far; whoever plays waits for `changed`, and reads with it held."""

    def __init__(self, rate: float | None) -> None:
        """Begin.

        Args:
            rate: times real time; None: as fast as it goes, which no command changes.
        """
        self.changed = threading.Condition()
        self.rate = rate
        self.is_paused = False
        self.is_stopped = False
        self.steps = 0
        """To go before it pauses again."""

    def ask(self, command: Command) -> None:
        """Take a command."""
        with self.changed:
            if command == Command.STOP:
                self.is_stopped = True
            elif command == Command.PAUSE:
                self.is_paused, self.steps = not self.is_paused, 0
            elif command == Command.STEP:
                self.steps += int(self.is_paused)
                self.is_paused = True
            elif self.rate is not None:
                self.rate = min(max(self.rate * _FACTORS[command.value], SLOWEST), FASTEST)
            self.changed.notify_all()
