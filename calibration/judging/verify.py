"""From a bundle, a work folder and examples to a verdict: `verify.json` to act upon, `verify.html` to look at."""

import logging
from pathlib import Path

import msgspec
import onnx

from calibration.examples import read_examples
from calibration.graphs import serialize, with_batch
from calibration.judging.gates import Gates
from calibration.judging.ladder import Verification, verify
from calibration.judging.stopwatch import time_beside
from calibration.judging.verify_page import write_page
from calibration.quantization.ranges import check_judge, read_ranges
from calibration.release.assembly import hashes, work_graphs
from calibration.work import RANGES, VERDICT, VERDICT_PAGE
from edge.backends.select import cpu_target
from models.bundle import Bundle, GraphEntry
from models.disk import write_whole
from models.errors import BundleError
from models.schema import load_yaml

log = logging.getLogger(__name__)


def verify_work(base: Bundle, work: Path, examples: Path, gates: Path | None) -> Verification:
    """Judge what a work folder holds, and write the verdict into it.

    Args:
        base: with the FP32 graphs.
        work: with `onnx/`.
        examples: file of examples that nothing was calibrated on.
        gates: YAML of `Gates`; the defaults without.
    Raises:
        ConfigError: the gates cannot be.
        InputError: the examples do not fit.
        BundleError: there is nothing to judge, or a graph cannot be run.
        RecordingError: the verdict cannot be written.
    """
    limits = load_yaml(gates, Gates) if gates is not None else Gates()
    given = read_examples(examples, base.spec)
    if (work / RANGES).is_file():
        check_judge(read_ranges(work / RANGES), given)
    candidate = with_work(base, work)
    accuracy, targets = verify(candidate, given, limits, machine=cpu_target(), stopwatch=time_beside, on_rung=log.info)
    found = Verification(
        bundle=base.manifest.title,
        graphs=hashes(candidate.contents),
        examples=given.count,
        note=given.note,
        gates=limits,
        accuracy=accuracy,
        targets=targets,
    )
    write_whole(work / VERDICT, msgspec.json.format(msgspec.json.encode(found.as_json())))
    write_page(work / VERDICT_PAGE, found)
    return found


def with_work(base: Bundle, work: Path) -> Bundle:
    """Return a bundle in memory of a base's FP32 graphs and what a work folder adds.

    Raises:
        BundleError: the folder holds no graphs, or one that belongs to no bundle of this kind.
    """
    kept = [graph for graph in base.manifest.graphs if graph.precision == "fp32"]
    contents = {graph.file: base.contents[graph.file] for graph in kept}
    made = work_graphs(work, contents)
    _check_pairs(work, made)
    manifest = msgspec.structs.replace(
        base.manifest, graphs=(*kept, *(graph for graph, _ in made)), approved={}, files={}
    )
    contents |= {graph.file: data for graph, data in made}
    return Bundle(path=work, manifest=manifest, sha256="", contents=contents)


def _check_pairs(work: Path, made: list[tuple[GraphEntry, bytes]]) -> None:
    """Raise BundleError unless every graph for one example is the one for any number, which alone is judged."""
    judged = {(one.role, one.precision, one.target): data for one, data in made if one.batch == "any"}
    for one, data in made:
        of_any = judged.get((one.role, one.precision, one.target))
        if one.batch == "any":
            continue
        if of_any is None or serialize(with_batch(onnx.load_from_string(of_any), 1)) != data:
            raise BundleError(
                f"{work / one.file}: not what the graph for any number of examples beside it makes of one, so nothing"
                " judges it: run uav-calibrate quantize again"
            )
