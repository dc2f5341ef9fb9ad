"""Two finished processes of one kind, output by output: what differs, and whether more than it may."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.links import LinkType

from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.data.model import DeepHModelData

MEV = 1000.0


@dataclass(frozen=True)
class Tolerances:
    """Largest differences.

    :param hamiltonian: of any element of H, meV.
    :param overlap: of any element of S, no unit.
    :param bands: of any eigenvalue, meV.
    :param errors: of errors, energies and other single values in units of energy, meV.
    :param curves: of the curves of an observable, as a share of the largest value.
    """

    hamiltonian: float = 1.0
    overlap: float = 1e-6
    bands: float = 1.0
    errors: float = 1.0
    curves: float = 1e-3


@dataclass(frozen=True)
class Row:
    """One comparison.

    :param value: the difference, or in words what was found.
    :param tolerance: None if it is only told.
    """

    output: str
    quantity: str
    value: float | str
    unit: str = ""
    tolerance: float | str | None = None

    @property
    def outside(self) -> bool:
        """Whether the difference is too large; not a number always is."""
        if self.tolerance is None:
            return False
        if isinstance(self.value, str) or isinstance(self.tolerance, str):
            return self.value != self.tolerance
        return not self.value <= self.tolerance

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with the verdict."""
        return {**asdict(self), "outside": self.outside}


def compare(first: orm.ProcessNode, second: orm.ProcessNode, tolerances: Tolerances) -> list[Row]:
    """All outputs of two processes; one that is missing on either side is a difference."""
    rows = [Row("process", "exit status", str(second.exit_status), tolerance=str(first.exit_status))]
    ours, theirs = outputs_of(first), outputs_of(second)
    for name in sorted({*ours, *theirs}):
        if name not in ours or name not in theirs:
            rows.append(Row(name, "presence", f"only in {first.pk if name in ours else second.pk}", tolerance="both"))
        else:
            rows += compare_nodes(name, ours[name], theirs[name], tolerances)
    return rows


def outputs_of(process: orm.ProcessNode) -> dict[str, orm.Data]:
    """Outputs by dotted name; folders of jobs, which differ by nature, are none."""
    links = process.base.links.get_outgoing(link_type=(LinkType.CREATE, LinkType.RETURN)).all()
    folders = (orm.RemoteData, orm.FolderData, orm.RemoteStashData)
    return {link.link_label.replace("__", "."): link.node for link in links if not isinstance(link.node, folders)}


def compare_nodes(name: str, first: orm.Data, second: orm.Data, tolerances: Tolerances) -> Iterator[Row]:
    """What two nodes of one kind differ in."""
    if type(first) is not type(second):
        yield Row(name, "kind", type(second).__name__, tolerance=type(first).__name__)
    elif isinstance(first, HamiltonianData):
        yield from _hamiltonians(name, first, second, tolerances)
    elif isinstance(first, orm.BandsData):
        ours, theirs = (np.asarray(node.get_bands()) for node in (first, second))
        yield Row(name, "largest |dE|", MEV * _largest(ours, theirs), "meV", tolerances.bands)
    elif isinstance(first, DeepHModelData):
        equal = first.base.attributes.get("weights_sha256") == second.base.attributes.get("weights_sha256")
        yield Row(name, "weights", "equal" if equal else "differ")
        yield from _numbers(
            name, first.base.attributes.get("metrics"), second.base.attributes.get("metrics"), tolerances
        )
    elif isinstance(first, DatasetData):
        yield from _datasets(name, first, second)
    elif isinstance(first, orm.Dict):
        yield from _numbers(name, first.get_dict(), second.get_dict(), tolerances)
    elif isinstance(first, orm.ArrayData):
        ours, theirs = ({key: node.get_array(key) for key in node.get_arraynames()} for node in (first, second))
        key = name.partition(".")[0]  # the curve that the output is called after
        if key in ours and key in theirs:
            scale = float(np.abs(ours[key]).max()) or 1.0
            yield Row(name, "largest difference", _largest(ours[key], theirs[key]) / scale, "", tolerances.curves)


def _hamiltonians(name: str, first: Any, second: Any, tolerances: Tolerances) -> Iterator[Row]:
    ours, theirs = first.load(), second.load()
    for matrix, factor, unit, tolerance in (
        ("hamiltonian", MEV, "meV", tolerances.hamiltonian),
        ("overlap", 1.0, "", tolerances.overlap),
    ):
        a, b = getattr(ours, matrix), getattr(theirs, matrix)
        if a is None or b is None:
            continue
        symbol = "H" if matrix == "hamiltonian" else "S"
        if ours.structure.symbols != theirs.structure.symbols or ours.basis != theirs.basis:
            yield Row(name, f"atoms and basis of {symbol}", "differ", tolerance="equal")
            continue
        difference = np.abs((a - b).entries)
        yield Row(name, f"largest |d{symbol}|", factor * float(difference.max()), unit, tolerance)
        yield Row(name, f"mean |d{symbol}|", factor * float(difference.mean()), unit)


def _datasets(name: str, first: Any, second: Any) -> Iterator[Row]:
    ours, theirs = ({member.uuid: member for member in node.members} for node in (first, second))
    same = "equal" if set(ours) == set(theirs) else f"{len(set(ours) ^ set(theirs))} differ"
    yield Row(name, "structures", same, tolerance="equal")
    equal = sum(ours[uuid].sha256 == theirs[uuid].sha256 for uuid in set(ours) & set(theirs))
    yield Row(name, "members with equal files", f"{equal} of {len(ours)}")


def _numbers(name: str, first: Mapping[str, Any], second: Mapping[str, Any], tolerances: Tolerances) -> Iterator[Row]:
    """Energies within their tolerance, counts exactly; times, paths and words are left out."""
    for key in sorted(set(first) | set(second)):
        ours, theirs = first.get(key), second.get(key)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping) and "second" not in key:
            yield from _numbers(f"{name}.{key}", ours, theirs, tolerances)
            continue
        factor = _in_mev(key, first)
        if factor is not None and _is_number(ours) and _is_number(theirs):
            yield Row(name, key, factor * abs(ours - theirs), "meV", tolerances.errors)
        elif factor is not None and (_is_number(ours) or _is_number(theirs)):
            yield Row(name, key, "a number on one side only", tolerance="both")
        elif key.startswith("n_") and ours != theirs:
            yield Row(name, key, str(theirs), tolerance=str(ours))


def _in_mev(key: str, values: Mapping[str, Any]) -> float | None:
    """What a value is multiplied with to be in meV; None if it is no energy."""
    unit = values.get(f"{key}_units") or key.rpartition("_")[2]
    return {"meV": 1.0, "eV": MEV}.get(unit)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _largest(first: np.ndarray, second: np.ndarray) -> float:
    """Largest difference; infinite where the shapes differ."""
    return float(np.abs(first - second).max(initial=0.0)) if first.shape == second.shape else float("inf")
