"""Contracted Gaussian basis sets: from the library that evaluates their integrals by name, or from a file of sets."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma

from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.orbitals.radial import RadialBasis, RadialShell


@dataclass(frozen=True)
class GaussianShells:
    """Shells of one l that share their exponents.

    :param l: angular momentum.
    :param exponents: 1 / Bohr^2, shape (n_primitives,).
    :param coefficients: of normalised primitives, one column per shell, shape (n_primitives, n_shells); the contracted
        functions are normalised whatever the scale of a column.
    """

    l: int
    exponents: NDArray[np.float64]
    coefficients: NDArray[np.float64]

    @classmethod
    def unnormalised(cls, l: int, exponents: NDArray[np.float64], coefficients: NDArray[np.float64]) -> GaussianShells:
        """From coefficients of primitives r^l exp(-a r^2) as they are."""
        return cls(l, exponents, coefficients * np.sqrt(_integral(2 * exponents, l))[:, None])


@dataclass(frozen=True)
class GaussianBasis:
    """The Gaussian shells of each element, in the order of the orbitals.

    :param shells: element -> groups of shells.
    :param valence: element -> electrons that its pseudopotential leaves, where that is known.
    :param source: element -> where its basis came from, as the user wrote it.
    """

    shells: Mapping[str, tuple[GaussianShells, ...]]
    valence: Mapping[str, float] = field(default_factory=dict)
    source: Mapping[str, str] = field(default_factory=dict)

    @property
    def orbital_basis(self) -> OrbitalBasis:
        """l of each shell of each element."""
        return OrbitalBasis(
            {s: tuple(g.l for g in groups for _ in range(g.coefficients.shape[1])) for s, groups in self.shells.items()}
        )

    def n_electrons(self, symbols: Iterable[str]) -> float | None:
        """Valence electrons of a structure, None if an element's valence is unknown."""
        symbols = list(symbols)
        if any(symbol not in self.valence for symbol in symbols):
            return None
        return float(sum(self.valence[symbol] for symbol in symbols))


def core_potential(symbol: str, name: str) -> Any:
    """The effective core potential that belongs to a basis, as the library has it: `[core electrons, ..]`, or nothing.

    A basis such as def2-SVP has one for heavy elements, without which its functions mean nothing.
    """
    from pyscf.gto.basis import load_ecp

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load_ecp(name, symbol)
    except Exception:  # the library has a class of its own for each way of not having one
        return None


def library_basis(symbol: str, name: str) -> tuple[tuple[GaussianShells, ...], float | None]:
    """A basis by name; with it the valence of the GTH pseudopotential for a `gth-` basis, for another one all electrons
    but those of its own core potential.

    :raises InputError: the library is not installed, or does not know the name.
    """
    try:
        from pyscf.gto import charge
        from pyscf.pbc.gto import Cell
    except ImportError as error:
        raise no_library(error) from None
    try:
        groups = Cell().format_basis({symbol: name})[symbol]
    except Exception as error:  # the library has a class of its own for each failure
        raise InputError(
            "no such basis in the library",
            where=f"basis of {symbol}",
            found=f"{name} ({error})",
            expected="a name it has",
        ) from None
    shells = []
    for l, *rows in groups:
        table = np.array([row for row in rows if not isinstance(row, int)], dtype=np.float64)
        shells.append(GaussianShells(int(l), table[:, 0], table[:, 1:]))
    if name.lower().startswith("gth"):
        pseudo = Cell().format_pseudo({symbol: "gth-pbe"}).get(symbol)
        electrons = float(sum(pseudo[0])) if pseudo else None
    else:
        core = core_potential(symbol, name)
        electrons = float(charge(symbol) - (core[0] if core else 0))
    return tuple(shells), electrons


def no_library(error: ImportError) -> InputError:
    """What to raise where the library of Gaussians is missing."""
    return InputError("library of Gaussians is not installed", found=error, remedy=f"pip install {error.name}")


def read_basis_set(path: Path, symbol: str, name: str) -> tuple[tuple[GaussianShells, ...], float | None]:
    """One set of a file of basis sets, and the valence electrons that its name or an alias states (`-qN`).

    A set of exponents is followed by one column of coefficients per shell, l ascending.

    :raises InputError: the file cannot be read, or holds no such basis set, or it is damaged.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(
            "basis-set file cannot be read", where=path, found=error, expected="a file of basis sets"
        ) from None
    for begin, line in enumerate(lines):
        words = line.split("#")[0].split("!")[0].split()
        if len(words) < 2 or words[0].upper() != symbol.upper() or name.upper() not in (w.upper() for w in words[1:]):
            continue
        try:
            shells = _parse_sets(_numbers(lines[begin + 1 :]))
        except (ValueError, StopIteration, IndexError) as error:
            raise InputError(
                "basis set is damaged", where=f"{path}, line {begin + 1}", found=error or "its end"
            ) from None
        charges = [re.search(r"-q(\d+)$", word, re.IGNORECASE) for word in words[1:]]
        electrons = next((float(match.group(1)) for match in charges if match), None)
        return shells, electrons
    raise InputError(
        "no such basis set",
        where=path,
        found=f"{symbol} {name}",
        expected="element and name as they stand in the file",
    )


def _numbers(lines: list[str]) -> Iterator[str]:
    for line in lines:
        yield from line.split("#")[0].split("!")[0].split()


def _parse_sets(words: Iterator[str]) -> tuple[GaussianShells, ...]:
    """Number of sets; then for each: n, l_min, l_max, number of exponents, shells of each l; then the table."""
    groups = []
    for _ in range(int(next(words))):
        _, l_min, l_max, n_exponents = (int(next(words)) for _ in range(4))
        counts = [int(next(words)) for _ in range(l_max - l_min + 1)]
        table = np.array([float(next(words)) for _ in range(n_exponents * (1 + sum(counts)))])
        table = table.reshape(n_exponents, -1)
        first = 1
        for l, count in zip(range(l_min, l_max + 1), counts, strict=True):
            if count:
                groups.append(GaussianShells(l, table[:, 0], table[:, first : first + count]))
            first += count
    return tuple(groups)


SMALLEST = 1e-7
"""Where a function has fallen to this (Bohr^-3/2) it ends."""

N_POINTS = 3000
"""Of the table, equally spaced in log r from 1e-3 Bohr; between them cubics are exact to 1e-8."""


def as_radial(basis: GaussianBasis) -> RadialBasis:
    """The same shells in the same order, R(r) = sum over primitives of c N r^l exp(-a r^2), normalised."""
    shells = {
        symbol: tuple(_tabulated(group, column) for group in groups for column in range(group.coefficients.shape[1]))
        for symbol, groups in basis.shells.items()
    }
    return RadialBasis(shells, basis.valence, basis.source)


def _tabulated(group: GaussianShells, column: int) -> RadialShell:
    l, a = group.l, group.exponents
    # Integral of r^(2l + 2) exp(-b r^2) over all r: Gamma(l + 3/2) / (2 b^(l + 3/2)).
    factors = group.coefficients[:, column] / np.sqrt(_integral(2 * a, l))
    factors = factors / np.sqrt(factors @ _integral(a[:, None] + a, l) @ factors)

    def value(r: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(r**l * (np.exp(-np.outer(r**2, a)) @ factors))

    far = np.linspace(0.01, 60.0, 6000)
    end = far[np.flatnonzero(np.abs(value(far)) > SMALLEST)[-1]] + 0.01
    r = np.geomspace(1e-3, end, N_POINTS)
    return RadialShell(l, r, value(r))


def _integral(b: NDArray[np.float64], l: int) -> NDArray[np.float64]:
    return np.asarray(gamma(l + 1.5) / (2 * b ** (l + 1.5)))
