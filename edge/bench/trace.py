"""The last second of each measured path as a Chrome trace: a span for every stage of every answered message.

Open it in https://ui.perfetto.dev or chrome://tracing. Each path is a process that begins at zero, each stage a thread.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from edge.bench.latency import Timed
from edge.transport.messages import Classification

STAGES = ("transport", "queue", "preprocess", "infer", "fuse")
_WINDOW_NS = 1_000_000_000


def chrome_trace(timed: Sequence[Timed]) -> bytes:
    """Return the JSON of a trace."""
    events: list[dict[str, Any]] = []
    for process, one in enumerate(timed, 1):
        events += _names(process, f"{one.result.path} {one.result.scenario}")
        events += _spans(process, last_second(one.answers))
    return msgspec.json.encode({"traceEvents": events, "displayTimeUnit": "ms"})


def last_second(answers: Sequence[Classification]) -> list[Classification]:
    """Return the answers of the last second."""
    end_ns = answers[-1].answer_ns if answers else 0
    return [answer for answer in answers if answer.answer_ns > end_ns - _WINDOW_NS]


def _names(process: int, name: str) -> list[dict[str, Any]]:
    names = [{"name": "process_name", "ph": "M", "pid": process, "tid": 0, "args": {"name": name}}]
    for thread, stage in enumerate(STAGES, 1):
        names.append({"name": "thread_name", "ph": "M", "pid": process, "tid": thread, "args": {"name": stage}})
    return names


def _spans(process: int, answers: Sequence[Classification]) -> list[dict[str, Any]]:
    """Return a span for each stage; stages follow one another, from the send to the answer."""
    sends_us = [answer.answer_ns / 1e3 - answer.latency_ms["total"] * 1e3 for answer in answers]
    start_us = min(sends_us, default=0.0)
    spans = []
    for answer, send_us in zip(answers, sends_us, strict=True):
        at_us = send_us - start_us
        for thread, stage in enumerate(STAGES, 1):
            lasted_us = answer.latency_ms.get(stage, 0.0) * 1e3
            span = {"name": stage, "ph": "X", "pid": process, "tid": thread, "cat": "stage"}
            told = {"message": answer.sequence, "label": answer.label}
            spans.append({**span, "ts": round(at_us, 1), "dur": round(lasted_us, 1), "args": told})
            at_us += lasted_us
    return spans
