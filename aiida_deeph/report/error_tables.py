"""Errors of a model on cells that it never saw: by distance of the atoms, and by pair of shells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SHELLS = "spdfghi"


@dataclass(frozen=True)
class DistanceErrors:
    """Mean |dH| and mean |H| of the test cells in meV by distance of the atoms, shape (n,).

    :param names: of the bins, e.g. `on site`, `1 to 2`, in Angstrom.
    """

    names: Sequence[str]
    mae_mev: Floats
    size_mev: Floats

    def name_of(self, index: int) -> str:
        """A bin in words."""
        name = self.names[index]
        return name if name == "on site" else f"at {name} Angstrom"


@dataclass(frozen=True)
class PairErrors:
    """Mean |dH| between two shells in meV, shape (n, n), NaN where there is no pair.

    :param labels: one per shell, e.g. `C p`.
    """

    labels: Sequence[str]
    mae_mev: Floats


def distance_errors(errors: Mapping[str, Any]) -> DistanceErrors:
    """The table of errors by distance.

    :param errors: the node `errors` of the evaluation, `distances` in eV and Angstrom.
    """
    table = errors["distances"]
    names = [f"{row['from_A']:.0f} to {row['to_A']:.0f}" if row["to_A"] else "on site" for row in table]
    mae, size = (1000 * np.array([row[key] for row in table]) for key in ("mae_eV", "mean_abs_label_eV"))
    return DistanceErrors(names, mae, size)


def pair_errors(errors: Mapping[str, Any], basis: Mapping[str, Sequence[int]]) -> PairErrors:
    """One table over the shells of all elements from the tables per pair of elements.

    :param errors: the node `errors` of the evaluation, `shell_mae_eV` in eV.
    :param basis: element -> l of each shell.
    """
    tables = errors["shell_mae_eV"]
    places = [(symbol, n) for symbol, ls in basis.items() for n in range(len(ls))]
    values = np.full((len(places), len(places)), np.nan)
    for row, (a, p) in enumerate(places):
        for column, (b, q) in enumerate(places):
            mae = tables[f"{a}-{b}"][p][q] if f"{a}-{b}" in tables else None
            values[row, column] = np.nan if mae is None else 1000 * mae
    labels = []
    for symbol, n in places:
        ls = basis[symbol]
        number = f" {ls[: n + 1].count(ls[n])}" if ls.count(ls[n]) > 1 else " "
        labels.append(f"{symbol}{number}{SHELLS[ls[n]]}")
    return PairErrors(labels, values)
