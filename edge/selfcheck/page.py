"""The selfcheck's page: verdict and lines first, then the tables behind them."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.page import Page


def page_of(document: Mapping[str, Any]) -> Page:
    """Return the page of a document, as `report.document_of` makes it."""
    board = document["board"]["before"]
    page = Page(f"Selfcheck: {document['verdict']}")
    model = document["model"]["title"] if document["model"] else "no bundle"
    page.text(f"{model} on {board['model'] or 'a board that does not say what it is'}")
    page.heading("Checks")
    page.table(
        ("check", "status", "why"),
        [(line["name"], line["status"], _line_text(line)) for line in document["lines"]],
    )
    device = document["device"]
    if device is not None:
        for name, measured in device["measured"].items():
            _add_measured(page, name, measured)
        _add_flights(page, device["flights"])
        _add_energy(page, device["energy"])
    _add_board(page, document["board"])
    page.heading("Versions")
    page.table(("of", "version"), list(document["versions"].items()))
    return page


def _line_text(line: Mapping[str, str]) -> str:
    if line["status"] == "ok":
        return line["found"]
    return f"expected {line['expected']}, found {line['found']}: {line['remedy']}"


def _add_measured(page: Page, name: str, measured: Mapping[str, Any]) -> None:
    page.heading(f"Plans in {name}")
    page.text("Answers beside FP32 on ONNX Runtime; the fused answer has come through all graphs.")
    page.table(
        ("graph", "examples", "same first class", "largest difference of a logit"),
        [
            (one["role"], str(one["examples"]), f"{one['agreement']:.1%}", _number(one["most_difference"], ".2g"))
            for one in measured["parities"]
        ],
    )
    roles = [*measured["precisions"], "all"]
    page.text(
        "Times in ms, medians: of the host from writing the inputs to having read the outputs, and of the GPU between"
        " two marks in its stream, with the copies. All: the branches side by side, then the fusion head."
    )
    heads = (
        "memory, CUDA graphs",
        "captured",
        *(f"{role} {what}" for role in roles[:-1] for what in ("host", "GPU")),
        "all host",
    )
    page.table(heads, [_way_cells(way, roles) for way in measured["ways"]], _fastest_cell(measured))


def _fastest_cell(measured: Mapping[str, Any]) -> str | None:
    return _way_name(measured["fastest"]) if measured["fastest"] else None


def _way_name(way: Mapping[str, Any]) -> str:
    return f"{way['memory']}, {'with' if way['cuda_graphs'] else 'without'}"


def _way_cells(way: Mapping[str, Any], roles: Sequence[str]) -> list[str]:
    captured = ", ".join(way["captured"]) or "none"
    cells = [_way_name(way), "failed" if way["failure"] else captured]
    for role in roles:
        timing = way["timings"].get(role, {})
        cells.append(_number(timing.get("host_p50_ms"), ".3f"))
        if role != "all":
            cells.append(_number(timing.get("gpu_p50_ms"), ".3f"))
    return cells


def _add_flights(page: Page, flights: Sequence[Mapping[str, Any]]) -> None:
    if not flights:
        return
    page.heading("Flights")
    page.text(
        "A synthetic flight through the pipeline in its own processes; from a sensor's sending to the answer, in ms."
    )
    rows = []
    for flight in flights:
        energy = flight["energy"]
        for sensors, latency in flight["latency_ms"].items():
            power = _number(energy["mean_mw"] / 1e3 if energy else None, ".2f")
            rows.append(
                (flight["flown"], sensors, _number(latency["p50"], ".3f"), _number(latency["p99"], ".3f"), power)
            )
    page.table(("engines", "sensors", "p50", "p99", "mean power, W"), rows)


def _add_energy(page: Page, energy: Mapping[str, Any] | None) -> None:
    if energy is None:
        return
    rails = ", ".join(f"{name} {joules:.1f} J" for name, joules in energy["rails_j"].items())
    page.text(
        f"While the graphs were measured the board took {energy['mean_mw'] / 1e3:.2f} W on average,"
        f" {energy['total_j']:.1f} J in {energy['seconds']:.1f} s ({rails})."
    )


def _add_board(page: Page, boards: Mapping[str, Any]) -> None:
    page.heading("Board")
    looks = {when: board for when, board in boards.items() if board is not None}
    names = [name for name, value in boards["before"].items() if value is not None]
    page.table(("", *looks), [(name, *(_text(board[name]) for board in looks.values())) for name in names])


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {one:g}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(
            f"{one['name']} {_number(one['now_mhz'], 'g')} of {_number(one['max_mhz'], 'g')} MHz" for one in value
        )
    return "-" if value is None else str(value)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
