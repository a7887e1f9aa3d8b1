"""Reports of a benchmark, made up for tests."""

from typing import Any

import msgspec

from edge.bench.latency import Timed
from edge.bench.percentiles import spread
from edge.bench.result import (
    SCHEMA,
    Contender,
    Contest,
    Core,
    Floor,
    Handover,
    Ingest,
    IngestPoint,
    Latency,
    Machine,
    Offline,
    Overload,
    Ratio,
    Report,
)
from edge.transport.messages import Classification, StreamAccounting

STAGES = {"transport": 1.0, "queue": 0.25, "preprocess": 0.5, "infer": 2.0, "fuse": 0.25}
PERIOD_NS = 10_000_000


def ledger(received: int = 0, processed: int = 0, rejected: dict[str, int] | None = None) -> StreamAccounting:
    """Return a stream's counts."""
    return StreamAccounting(
        received=received,
        processed=processed,
        superseded=0,
        dropped_late=0,
        rejected=rejected or {},
        in_flight=0,
        lost_transport=0,
        state="live",
    )


def classification(sequence: int, answer_ns: int) -> Classification:
    """Return an answer with stages of known times."""
    return Classification(
        sequence=sequence,
        capture_ns=1,
        answer_ns=answer_ns,
        class_id=0,
        label="<lake>",
        confidence=1.0,
        probs=(1.0,),
        modalities=(),
        latency_ms={**STAGES, "total": sum(STAGES.values())},
    )


def latency(**changes: Any) -> Latency:
    """Return a paced path of a thousand answers, at 1.1 of its floor."""
    one = Latency(
        path="image",
        scenario="paced",
        streams={},
        from_send=spread([2.2] * 1000),
        from_schedule=spread([2.3] * 1000),
        unanswered=0,
        stages={stage: spread([value] * 1000) for stage, value in STAGES.items()},
        floor=Floor(
            paced_ms=2.0,
            paced_parts_ms={"transport": 1.0, "infer": 1.0},
            hot_ms=1.0,
            hot_parts_ms={"infer": 1.0},
        ),
        ratio=Ratio(value=1.1, low=1.0, high=1.2),
        hot_ratio=2.2,
        fused_share=1.0,
        cpu_ms_per_result=1.0,
        joules_per_result=None,
    )
    return msgspec.structs.replace(one, **changes)


def overload(**changes: Any) -> Overload:
    """Return an overload that went well."""
    one = Overload(
        path="image",
        factor=3.0,
        maximum_per_s=100.0,
        offered_per_s=300.0,
        results_per_s=95.0,
        throughput_share=0.95,
        age=spread([5.0] * 1000),
        stages={stage: spread([value] * 1000) for stage, value in STAGES.items()},
        sender_late=spread([0.1] * 1000),
        from_send=spread([4.9] * 1000),
        busy_share=0.98,
        period_ms=3.3,
        inference_ms=3.0,
        age_share=0.8,
        rss_start_mib=80.0,
        rss_end_mib=80.0,
        sent=10,
        counts=ledger(received=10, processed=10),
        is_exact=True,
    )
    return msgspec.structs.replace(one, **changes)


def ingest(peak: float | None) -> Ingest:
    """Return a sweep of one rate."""
    point = IngestPoint(
        wanted_ms_per_s=61.44,
        sent_ms_per_s=61.44,
        message_bytes=2_457_600,
        messages=100,
        lost=0,
        rejected=0,
        inferred=100,
        cpu_percent=20.0,
        is_lossless=True,
    )
    return Ingest(points=(point,), peak_ms_per_s=peak)


def handover(ratio: float) -> Handover:
    """Return a hand-over."""
    return Handover(
        frame_bytes=6_220_800,
        socket=spread([ratio] * 100),
        shm=spread([1.0] * 100),
        socket_over_shm=Ratio(value=ratio, low=ratio, high=ratio),
        header_ns={"decode_header": 500.0},
    )


def report(**changes: Any) -> Report:
    """Return a report with a figure of every kind."""
    contest = Contest(
        subject="iq",
        measured="inference",
        contenders=(
            Contender(name="onnxruntime:fp32", latency=spread([2.0] * 100), ratio=None),
            Contender(name="onnxruntime:int8", latency=spread([1.0] * 100), ratio=Ratio(value=0.5, low=0.4, high=0.6)),
        ),
    )
    one = Report(
        schema=SCHEMA,
        model="demo-1",
        backend="onnxruntime",
        precisions={"iq": "fp32"},
        machine=Machine(cpu="x", cores=2, kernel="6", arch="x86_64", python="3.11"),
        core=Core(import_s=0.3, rss_mib=80.0, idle_cpu_percent=0.5, idle_watts=None),
        latencies=(latency(),),
        offline=(Offline(path="image", results_per_s=100.0, cpu_ms_per_result=1.0),),
        overloads=(overload(),),
        ingest=ingest(61.44),
        handover=handover(5.0),
        contests=(contest,),
        accounting={"image": {"image": ledger(received=10, processed=10)}},
    )
    return msgspec.structs.replace(one, **changes)


def timed(answers: int) -> Timed:
    """Return a path with its answers, 10 ms apart."""
    return Timed(result=latency(), answers=[classification(n, (n + 1) * PERIOD_NS) for n in range(answers)])
