"""A verdict as JUnit XML, which every CI server reads: a flight is a test case, and so are the sums."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

from edge.regression.figures import Finding
from edge.regression.text import changes_text, finding_text
from edge.regression.verdict import FlightVerdict, Verdict

IN_SUM = "all flights in sum"
_SUITE = "uav-edge regress"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no way to write."""


def junit_xml(verdict: Verdict) -> bytes:
    """Return the file's bytes."""
    cases = [_flight_case(flight) for flight in verdict.flights]
    if verdict.in_sum:
        cases.append(_case(IN_SUM, 0.0, verdict.worse_in_sum, ""))
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": str(verdict.errors),
        "time": f"{sum(float(case.attrib['time']) for case in cases):.3f}",
    }
    suites = ElementTree.Element("testsuites", {"name": _SUITE, **counts})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": _SUITE, **counts, "skipped": "0"})
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (("old", verdict.old_model), ("new", verdict.new_model)):
        ElementTree.SubElement(properties, "property", {"name": name, "value": _clean(value)})
    suite.extend(cases)
    if verdict.notes:
        ElementTree.SubElement(suite, "system-out").text = _clean("\n".join(verdict.notes))
    ElementTree.indent(suites)
    return bytes(ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"


def _flight_case(flight: FlightVerdict) -> ElementTree.Element:
    if flight.pair is None:
        case = _case(flight.flight, 0.0, (), "")
        message = {"message": _clean(flight.problem), "type": "error"}
        ElementTree.SubElement(case, "error", message).text = _clean(flight.problem)
        return case
    seconds = flight.pair.old.wall_s + flight.pair.new.wall_s
    return _case(flight.flight, seconds, flight.worse, "\n".join(changes_text(flight.pair.comparison)))


def _case(name: str, seconds: float, worse: Sequence[Finding], output: str) -> ElementTree.Element:
    attributes = {"classname": _SUITE.replace(" ", "."), "name": _clean(name), "time": f"{seconds:.3f}"}
    case = ElementTree.Element("testcase", attributes)
    if worse:
        lines = [finding_text(finding) for finding in worse]
        failure = ElementTree.SubElement(case, "failure", {"message": _clean("; ".join(lines)), "type": "regression"})
        failure.text = _clean("\n".join(lines))
    if output:
        ElementTree.SubElement(case, "system-out").text = _clean(output)
    return case


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
