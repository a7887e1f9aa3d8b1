"""What a rule is, and what it says of a graph that breaks it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from calibration.rules.view import AnyGraph

Severity = Literal["error", "warning"]
"""error: NVIDIA's parser refuses it, or the numbers suffer; warning: it costs speed, or may cost accuracy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """One place of a graph where it breaks a rule."""

    rule: str
    severity: Severity
    node: str
    """The node, or the tensor where no node is to blame."""
    reason: str
    fix: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What a graph for TensorRT must not do."""

    name: str
    severity: Severity
    forbids: str
    why: str
    fix: str
    find: Callable[[AnyGraph], Iterator[tuple[str, str]]]
    """Yields (node, reason) for each place that breaks the rule."""

    def judge(self, view: AnyGraph) -> Iterator[Violation]:
        """Yield a violation for each place that breaks the rule."""
        for node, reason in self.find(view):
            yield Violation(rule=self.name, severity=self.severity, node=node, reason=reason, fix=self.fix)
