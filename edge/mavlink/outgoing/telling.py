"""What people are told in words, and how: STATUSTEXT of the flight's changes."""

import logging

from pymavlink.dialects.v20 import common

from edge.mavlink.network.peers import News
from edge.mavlink.outgoing.status_text import Said, StatusTexts
from edge.mavlink.pace import NS_PER_S
from edge.mavlink.wire import codec
from edge.transport.messages import Classification, Injected, Load, PipelineStatus, RecorderStatus

HOLD_NS = 300_000_000
"""A modality that is back sooner was not missing, as far as people are told."""
RECORDER_SILENT_NS = 5 * NS_PER_S
"""It speaks once a second, but waits for its disk."""
TEST_FLIGHT_NS = 30 * NS_PER_S
"""That faults are injected is said as often."""
CLASS = "class"
"""The subject that answers are told under."""
LASTING = frozenset({CLASS, "pipeline", "backend", "load", "recorder", "memory", "parameters"}) | {
    f"modality {n}" for n in range(codec.MASK_BITS)
}
"""What holds until it is something else; said again to who comes late."""


class Telling:
    """Finds what changed, and remembers what was said of it. Times come in as arguments."""

    def __init__(self) -> None:
        self.is_on = True
        """Whether anything is said; what changes meanwhile is said later."""
        self.least_confidence = 0.0
        """Of an answer whose class is worth a text."""
        self._texts = StatusTexts()
        self._texts.assume("pipeline", "live")
        self._recorder_ns: int | None = None
        self._is_recorder_paused = False

    def take(self, now_ns: int) -> Said | None:
        """Return what is to be said now, if anything."""
        return self._texts.take(now_ns) if self.is_on else None

    def on_class(self, answer: Classification, now_ns: int) -> None:
        """Take the class of an answer."""
        if not answer.has_answer:
            self._texts.note(CLASS, "", common.MAV_SEVERITY_WARNING, "FUSION: no data", now_ns=now_ns)
        elif not answer.confidence < self.least_confidence:
            text = f"FUSION: {answer.label} {100 * answer.confidence:.0f}%"
            self._texts.note(CLASS, answer.label, common.MAV_SEVERITY_INFO, text, now_ns=now_ns)

    def on_modalities(self, answer: Classification, now_ns: int) -> None:
        """Take what took part in an answer."""
        for n, modality in enumerate(answer.modalities[: codec.MASK_BITS]):
            subject = f"modality {n}"
            self._texts.assume(subject, "present")
            if modality.mask > 0:
                news = ("present", common.MAV_SEVERITY_NOTICE, f"FUSION: {modality.name} is back")
            else:
                reason = modality.reason or "no reason given"
                news = ("missing", common.MAV_SEVERITY_WARNING, f"FUSION: {modality.name} missing: {reason}")
            self._texts.note(subject, *news, now_ns=now_ns, hold_ns=HOLD_NS)

    def on_status(self, status: PipelineStatus, now_ns: int) -> None:
        """Take the pipeline's status."""
        self._note_backend(status.backend, now_ns)
        self._note_load(status.load, now_ns)
        self._note_injected(status.injected, now_ns)

    def on_recorder(self, status: RecorderStatus, now_ns: int) -> None:
        """Take the recorder's status."""
        self._recorder_ns = now_ns
        self._is_recorder_paused = bool(status.pause)

    def on_news(self, news: News, now_ns: int) -> None:
        """Take what a link or a command has to tell, once."""
        severity = common.MAV_SEVERITY_WARNING if news.level > logging.INFO else common.MAV_SEVERITY_NOTICE
        self._texts.note(news.subject, news.status_text, severity, news.status_text, now_ns=now_ns)

    def on_arrival(self, *, is_answering: bool) -> None:
        """Say what holds to who arrives; the class only while answers come and may be told."""
        self._texts.repeat(LASTING if is_answering else LASTING - {CLASS})

    def forget_class(self) -> None:
        """Say nothing of answers that nobody may hear of any more."""
        self._texts.forget(CLASS)

    def on_tick(self, *, is_silent: bool, now_ns: int) -> None:
        """Take notice of who is silent.

        Args:
            is_silent: whether nothing is heard of the pipeline.
            now_ns: the time.
        """
        if is_silent:
            news = ("silent", common.MAV_SEVERITY_CRITICAL, "FUSION: pipeline is silent")
        else:
            news = ("live", common.MAV_SEVERITY_NOTICE, "FUSION: pipeline is back")
        self._texts.note("pipeline", *news, now_ns=now_ns)
        self._note_recorder(now_ns)

    def _note_backend(self, backend: str, now_ns: int) -> None:
        """Say when other engines fly than before; a flight begins on ONNX Runtime."""
        self._texts.assume("backend", backend)
        severity = common.MAV_SEVERITY_WARNING if backend == "onnxruntime" else common.MAV_SEVERITY_NOTICE
        self._texts.note("backend", backend, severity, f"FUSION: now on {backend}", now_ns=now_ns)

    def _note_load(self, load: Load, now_ns: int) -> None:
        """Say what is left out, and when nothing is any more."""
        self._texts.assume("load", "")
        if load.level:
            news = (load.name, common.MAV_SEVERITY_WARNING, f"FUSION: shed: {load.name}")
        else:
            news = ("", common.MAV_SEVERITY_NOTICE, "FUSION: nothing shed any more")
        self._texts.note("load", *news, now_ns=now_ns)

    def _note_injected(self, injected: Injected, now_ns: int) -> None:
        """Say again and again that nobody must believe what is answered, as faults are injected into this flight."""
        if injected.faults:
            names = ", ".join(text.partition("@")[0] for text in injected.faults)
            again = str(now_ns // TEST_FLIGHT_NS)
            self._texts.note(
                "injected", again, common.MAV_SEVERITY_WARNING, f"FUSION: TEST, injected: {names}", now_ns=now_ns
            )

    def _note_recorder(self, now_ns: int) -> None:
        """Say when the flight is not recorded any more, and when it is again; nothing where there is no recorder."""
        if self._recorder_ns is None:
            return
        self._texts.assume("recorder", "records")
        if now_ns - self._recorder_ns > RECORDER_SILENT_NS:
            news = ("silent", common.MAV_SEVERITY_WARNING, "FUSION: recorder is silent")
        elif self._is_recorder_paused:
            news = ("paused", common.MAV_SEVERITY_WARNING, "FUSION: recording paused: disk full")
        else:
            news = ("records", common.MAV_SEVERITY_NOTICE, "FUSION: recording again")
        self._texts.note("recorder", *news, now_ns=now_ns)
