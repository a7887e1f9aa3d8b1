"""A flight on one page that opens offline: accuracy, timeline, weights, latency, and where every message went."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.backends.select import precisions_text
from edge.operations import report_parts as page
from edge.operations import report_svg as svg
from edge.operations.flown import Flown, LoadChange
from edge.operations.report_series import (
    STAGES,
    Timeline,
    alone_keys,
    column_means,
    errors,
    latencies,
    modality_values,
    reason_keys,
    runs,
    timeline,
    truth_keys,
)
from edge.operations.report_svg import Ink
from edge.transport.messages import Classification, StreamAccounting

_MODALITY_COLOURS = ("#3f7cc4", "#e08a3c", "#4ba67c", "#a869b8")
_REASON_COLOURS = ("#d98f5c", "#a7a3c9", "#c96f7b", "#8fa9a0", "#c9b458", "#7f9cc0")
_STAGE_COLOURS = ("#8aa1c4", "#d9b95b", "#67b3a3", "#4474bd", "#b184c9")
_FATE_COLOURS = ("#5aa77b", "#9fb0c0", "#e0a84a", "#c9b458", "#6fa8c9", "#d4615b", "#a68fd0")
_PRESENT = "#5aa77b"
_LISTED_CLASSES = 24
_LEAST_ANSWERS = 10
"""Sensors that caused fewer answers together are listed in the table of latencies, but not drawn."""
_STRIP_PX, _ERRORS_PX = 26, 7


def write_report(path: Path, flown: Flown) -> None:
    """Write a flight's report: one HTML file without outside references.

    Raises:
        RecordingError: the file cannot be written there.
    """
    answers = list(flown.answers)
    times = timeline(answers)
    names = [modality.name for modality in answers[0].modalities] if answers else []
    sensors = [Ink(colour=page.cycle(_MODALITY_COLOURS, n), text=name) for n, name in enumerate(names)]
    sections = [
        _headline(flown, answers, times),
        _accuracy(flown, sensors),
        _timeline(flown, answers, times, names),
        _weights(answers, times, sensors),
        _latency(answers),
        _accounting(flown.streams),
        _loads(flown.loads),
    ]
    page.write_page(path, f"{flown.title} - flight report", sections)


def _headline(flown: Flown, answers: Sequence[Classification], times: Timeline) -> str:
    rate_hz = len(answers) / times.duration_s if len(answers) > 1 else 0.0
    totals = [answer.latency_ms["total"] for answer in answers if "total" in answer.latency_ms]
    accuracy = flown.summary()["accuracy"]
    messages = sum(stream.received for stream in flown.streams.values())
    facts = [
        (page.share(accuracy), "answers right"),
        (page.number(len(answers)), f"answers, {rate_hz:.1f} a second"),
        (f"{np.median(totals):.2f} ms" if totals else "-", "median from message to answer"),
        (page.number(messages), "sensor messages received"),
    ]
    model = (
        f"Model {flown.model or 'unknown'}, {len(flown.labels)} classes: {', '.join(flown.labels[:_LISTED_CLASSES])}"
    )
    more = ", …" if len(flown.labels) > _LISTED_CLASSES else ""
    more += f". Graphs: {precisions_text(flown.precisions)}" if flown.precisions else ""
    return page.headline(flown.title, model + more, facts)


def _accuracy(flown: Flown, sensors: Sequence[Ink]) -> str:
    summary = flown.summary()
    if summary["accuracy"] is None:
        return page.section("Accuracy", "The truth of this flight is not known, so nothing is scored.", "")
    rows = [_measured("fused", "", summary["accuracy"], "var(--good)")]
    for sensor in sensors:
        share = summary.get(f"accuracy_{sensor.text}")
        if share is not None:
            rows.append(_measured(sensor.text, "alone", share, sensor.colour))
    note = (
        f"Share of right answers among the {page.number(summary['scored'])} whose truth is known; NO_DATA counts as"
        " wrong."
        " A sensor alone is judged on the answers that it took part in."
    )
    return page.section("Accuracy", note, "".join(rows))


def _measured(name: str, what: str, share: float, colour: str) -> str:
    drawn = svg.bar([(share, Ink(colour=colour, text=f"{name}: {share:.2%}"))], 1.0)
    label = f'<div class="what"><b>{escape(name)}</b> {escape(what)}</div>'
    return f'<div class="row measured">{label}{drawn}<div class="figure">{share:.1%}</div></div>'


def _timeline(flown: Flown, answers: Sequence[Classification], times: Timeline, names: Sequence[str]) -> str:
    title = "What was seen, against the truth"
    if not answers:
        return page.section(title, "There was not a single answer.", "")
    truths = truth_keys(answers, flown.truths)
    lanes: dict[str, list[int | None]] = {"fused": [answer.class_id for answer in answers]}
    lanes |= {f"{name} alone": alone_keys(answers, name) for name in names}
    inks = page.class_inks(flown.labels)
    for key in {key for keys in (truths, *lanes.values()) for key in keys} - set(inks) - {None}:
        inks[key] = Ink(colour=page.NOTHING, text=f"class {key}")
    rows = []
    if any(truth is not None for truth in truths):
        rows.append(
            page.row("<b>truth</b>", svg.strip(runs(times, truths), times.duration_s, inks, _STRIP_PX, "truth"))
        )
    for name, keys in lanes.items():
        rows.append(
            page.row(f"<b>{escape(name)}</b>", svg.strip(runs(times, keys), times.duration_s, inks, _STRIP_PX, name))
        )
        wrong = errors(times, keys, truths)
        rows.append(page.row("", svg.marks(wrong, times.duration_s, _ERRORS_PX, f"{name} wrong"), "errors"))
    rows.append(page.row("", svg.axis(svg.ticks_of_time(times.duration_s))))
    rows.append(svg.legend(_listed(inks, (truths, *lanes.values()))))
    note = (
        "Each lane shows one opinion over time. A red mark below a lane is where it contradicts the truth; where there"
        " are too many answers to tell them apart, it is as long as their share of wrong ones."
    )
    return page.section(title, note, "".join(rows))


def _weights(answers: Sequence[Classification], times: Timeline, sensors: Sequence[Ink]) -> str:
    if not answers:
        return ""
    span_s, clock = times.duration_s, page.row("", svg.axis(svg.ticks_of_time(times.duration_s)))
    names = [sensor.text for sensor in sensors]
    weights = column_means(times, modality_values(answers, names, "weight"))
    entropies = column_means(times, modality_values(answers, names, "entropy"))
    reasons = {name: reason_keys(answers, name) for name in names}
    inks = _reason_inks(reasons.values())
    masks = [
        page.row(f"<b>{escape(name)}</b>", svg.strip(runs(times, keys), span_s, inks, _STRIP_PX, f"state of {name}"))
        for name, keys in reasons.items()
    ]
    return page.section(
        "Which sensor counted",
        "IEMF gives more weight to the sensor whose own answer is more certain; a sensor that is absent has none.",
        svg.legend(sensors)
        + page.row("<b>weight</b><br>share of each sensor", svg.area(*weights, span_s, sensors))
        + clock
        + page.row("<b>entropy</b><br>0 is certain", svg.lines(*entropies, span_s, sensors))
        + clock
        + "<h3>Present or absent, and why</h3>"
        + "".join(masks)
        + clock
        + svg.legend(inks.values()),
    )


def _latency(answers: Sequence[Classification]) -> str:
    groups = latencies(answers)
    if not groups:
        return page.section("Latency", "No answer had data in it, so there is no latency.", "")
    stages = [Ink(colour=colour, text=stage) for stage, colour in zip(STAGES, _STAGE_COLOURS, strict=True)]
    drawn = {name: group for name, group in groups.items() if len(group["total"]) >= _LEAST_ANSWERS} or groups
    curves = {name: Ink(colour=page.cycle(_MODALITY_COLOURS, n), text=name) for n, name in enumerate(drawn)}
    widest_ms = max(sum(float(np.median(stages_ms[stage])) for stage in STAGES) for stages_ms in drawn.values())
    waterfall = [_waterfall(name, stages_ms, widest_ms, stages) for name, stages_ms in drawn.items()]
    totals = {name: stages_ms["total"] for name, stages_ms in drawn.items()}
    note = (
        "From the moment the source sent the message that caused an answer to the answer itself, in ms. Stages are"
        " medians; they need not add up to the median of the total exactly."
    )
    body = (
        svg.legend(stages)
        + "".join(waterfall)
        + page.table(
            ("sensors", "answers", "p50", "p90", "p99", "max", *(f"{stage} p50" for stage in STAGES)),
            [_latency_cells(name, stages_ms) for name, stages_ms in groups.items()],
        )
        + "<h3>How often at most how long</h3>"
        + svg.legend(curves.values())
        + page.row("<b>answers</b><br>at or below", svg.cumulative(totals, curves))
    )
    return page.section("Latency", note, body)


def _waterfall(name: str, stages_ms: Mapping[str, NDArray[np.float64]], widest_ms: float, inks: Sequence[Ink]) -> str:
    medians = [float(np.median(stages_ms[stage])) for stage in STAGES]
    parts = [
        (value, Ink(colour=ink.colour, text=f"{ink.text} {value:.3f} ms"))
        for value, ink in zip(medians, inks, strict=True)
    ]
    figure = f'<div class="figure">{sum(medians):.2f} ms</div>'
    label = f'<div class="what"><b>{escape(name)}</b></div>'
    return f'<div class="row measured">{label}{svg.bar(parts, widest_ms)}{figure}</div>'


def _latency_cells(name: str, stages_ms: Mapping[str, NDArray[np.float64]]) -> list[str]:
    totals = stages_ms["total"]
    percentiles = [f"{np.percentile(totals, q):.2f}" for q in (50, 90, 99, 100)]
    return [name, page.number(len(totals)), *percentiles, *(f"{np.median(stages_ms[stage]):.3f}" for stage in STAGES)]


def _accounting(streams: Mapping[str, StreamAccounting]) -> str:
    if not streams:
        return page.section("Where every message went", "The pipeline never published its accounting.", "")
    inks = [
        Ink(colour=colour, text=text)
        for text, colour in zip(
            ("processed", "superseded", "dropped late", "shed", "gathered", "rejected", "in flight"),
            _FATE_COLOURS,
            strict=True,
        )
    ]
    body = [svg.legend(inks)]
    for name, stream in streams.items():
        fates = _fates(stream)
        parts = [(n, Ink(colour=ink.colour, text=f"{ink.text} {n}")) for n, ink in zip(fates, inks, strict=True)]
        terms = " + ".join(map(page.number, fates))
        verdict = (
            '<span class="good">✓ balanced</span>' if stream.balanced else '<span class="bad">✗ not balanced</span>'
        )
        equation = f'<p class="equation">{page.number(stream.received)} = {terms} {verdict}</p>'
        body.append(
            page.row(f"<b>{escape(name)}</b>", svg.bar(parts, float(max(sum(fates), stream.received))) + equation)
        )
    reasons = [
        [name, reason, page.number(count), page.share(count / max(stream.received, 1))]
        for name, stream in streams.items()
        for reason, count in _drops(stream).items()
    ]
    columns = ("stream", "received", *(ink.text for ink in inks), "lost before arrival", "state at the end")
    body.append(page.table(columns, [_stream_cells(name, stream) for name, stream in streams.items()]))
    table = page.table(("stream", "reason", "messages", "of received"), reasons)
    body.append("<h3>Drops by reason</h3>" + (table if reasons else '<p class="about">Nothing was dropped.</p>'))
    note = (
        "received = processed + superseded + dropped late + shed + gathered + rejected + in flight, exactly, for every"
        " stream."
        " Gathered: shorter than the model's window, and joined with later ones."
    )
    return page.section("Where every message went", note, "".join(body))


def _loads(loads: Sequence[LoadChange]) -> str:
    if not loads:
        return ""
    rows = [[f"{one.after_s:.1f} s", one.name or "nothing any more", one.why] for one in loads]
    note = "When the board could not do it all, this was left out on arrival. Times are since the first status."
    return page.section("What was shed", note, page.table(("from", "shed", "why"), rows))


def _fates(stream: StreamAccounting) -> tuple[int, ...]:
    rejected = sum(stream.rejected.values())
    unused = (stream.superseded, stream.dropped_late, stream.shed, stream.gathered, rejected)
    return stream.processed, *unused, stream.in_flight


def _drops(stream: StreamAccounting) -> dict[str, int]:
    """Return why messages of a stream did not become a feature, most frequent first."""
    drops = {
        "superseded by a newer one": stream.superseded,
        "too late": stream.dropped_late,
        "shed": stream.shed,
        **{f"rejected: {reason}": count for reason, count in stream.rejected.items()},
        "lost before arrival": stream.lost_transport,
    }
    return {reason: count for reason, count in sorted(drops.items(), key=lambda drop: -drop[1]) if count}


def _stream_cells(name: str, stream: StreamAccounting) -> list[str]:
    counts = (stream.received, *_fates(stream), stream.lost_transport)
    return [name, *map(page.number, counts), stream.state]


def _reason_inks(lanes: Iterable[Sequence[str | None]]) -> dict[Hashable, Ink]:
    found = sorted({reason for lane in lanes for reason in lane if reason})
    inks: dict[Hashable, Ink] = {"": Ink(colour=_PRESENT, text="present")}
    return inks | {reason: Ink(colour=page.cycle(_REASON_COLOURS, n), text=reason) for n, reason in enumerate(found)}


def _listed(inks: Mapping[Hashable, Ink], lanes: Iterable[Sequence[int | None]]) -> list[Ink]:
    """Return the inks that occur, in class order, at most _LISTED_CLASSES."""
    used = {key for lane in lanes for key in lane}
    return [ink for key, ink in inks.items() if key in used][:_LISTED_CLASSES]
