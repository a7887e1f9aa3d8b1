"""What TensorRT has to say: to Python's logging, and its errors to whoever makes an exception of them."""

import functools
import logging
from typing import Any

log = logging.getLogger(__name__)


@functools.cache
def logger_of(trt: Any) -> Any:
    """Return a module's one logger: TensorRT keeps the first that a process makes, whatever others it is handed.

    Its `lines` are the errors that were logged, oldest first.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps errors for the message of an exception, and passes all on to Python's logging."""

        def __init__(self) -> None:
            super().__init__()
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            """Take one line."""
            text = " ".join(message.split())
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.lines.append(text)
            log.debug("%s: %s", trt.__name__, text)

    return Logger()
