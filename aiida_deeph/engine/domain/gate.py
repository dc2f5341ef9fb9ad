"""The result of one quality gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Gate:
    """Result of one gate.

    :param name: what was looked at.
    :param passed: within the limit.
    :param value: what was found, None where there is nothing to look at.
    :param limit: what was allowed, None if the gate is a yes or no.
    :param unit: of value and limit.
    :param severity: a failed `error` rejects the data, a failed `warning` is only told.
    :param detail: where the value was found, in words.
    """

    name: str
    passed: bool
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    severity: Literal["error", "warning"] = "error"
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON types only; a value that is not finite becomes None."""
        values = asdict(self)
        if self.value is not None and not np.isfinite(self.value):
            values["value"] = None
        return values

    def __str__(self) -> str:
        found = "" if self.value is None else f" {self.value:.3g} {self.unit}".rstrip()
        allowed = "" if self.limit is None else f" (limit {self.limit:g})"
        return f"{self.name}:{found}{allowed}" + (f", {self.detail}" if self.detail else "")


def failures(gates: Sequence[Gate], severity: Literal["error", "warning"] = "error") -> list[Gate]:
    """Gates of that severity that were not passed."""
    return [gate for gate in gates if not gate.passed and gate.severity == severity]
