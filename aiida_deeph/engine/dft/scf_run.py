"""What the input of one SCF says in any code: the geometry, spins, k-points, and the user's keywords."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ScfRun:
    """One geometry.

    :param keywords: keyword -> its checked text, as `KeywordTable.checked` returns them.
    :param kmesh: Gamma-centred mesh of the SCF.
    :param moments: initial spin moment of each atom, shape (n_atoms, 3), Bohr magnetons; only z counts if collinear.
    :param band_kpoints: fractional, shape (n_k, 3), and labels of some of them by index.
    :param restart: start from the density of an earlier run, whose files are there.
    """

    structure: Structure
    kmesh: tuple[int, int, int]
    keywords: Mapping[str, str] = field(default_factory=dict)
    spin: SpinMode = SpinMode.NONE
    spin_orbit: bool = False
    moments: NDArray[np.float64] | None = None
    band_kpoints: NDArray[np.float64] | None = None
    band_labels: Sequence[tuple[int, str]] = ()
    restart: bool = False

    def check_species(self, known: Mapping[str, object]) -> None:
        """Every element has something that stands for it.

        :raises InputError: one has not.
        """
        missing = sorted(set(self.structure.symbols) - set(known))
        if missing:
            raise InputError("element without basis", where="structure", found=", ".join(missing))

    def check_spin(self, valences: Mapping[str, float | None]) -> None:
        """Spin-orbit coupling has noncollinear spins, moments have spins and are not larger than the valence.

        :param valences: element -> electrons of its pseudo-atom, None if nobody knows.
        :raises InputError: otherwise.
        """
        if self.spin_orbit and self.spin is not SpinMode.NONCOLLINEAR:
            raise InputError(
                "spin-orbit coupling needs noncollinear spins",
                where="spin",
                found=self.spin.value,
                expected="noncollinear",
            )
        for n, (symbol, size) in enumerate(zip(self.structure.symbols, self.moment_sizes(), strict=True), start=1):
            valence = valences.get(symbol)
            place = f"moments, atom {n} ({symbol})"
            if size and self.spin is SpinMode.NONE:
                raise InputError(
                    "initial moment without spin",
                    where=place,
                    found=f"{size:g} Bohr magnetons",
                    expected="collinear or noncollinear spins",
                )
            if valence is not None and abs(size) > valence:
                raise InputError(
                    "initial moment exceeds the valence",
                    where=place,
                    found=f"{size:g} Bohr magnetons",
                    expected=f"at most {valence:g}",
                )

    def moment_vectors(self) -> NDArray[np.float64]:
        """Shape (n_atoms, 3); zero where none are given."""
        given = np.zeros((len(self.structure), 3)) if self.moments is None else self.moments
        return np.asarray(given, dtype=np.float64)

    def moment_sizes(self) -> list[float]:
        """Along z with its sign, or the length of noncollinear moments."""
        vectors = self.moment_vectors()
        sizes = np.linalg.norm(vectors, axis=1) if self.spin is SpinMode.NONCOLLINEAR else vectors[:, 2]
        return [float(size) for size in sizes]


def polar_angles(vector: NDArray[np.float64]) -> tuple[float, float]:
    """Polar and azimuthal angle of a vector in degrees; zero of the zero vector."""
    size = float(np.linalg.norm(vector))
    if not size:
        return 0.0, 0.0
    theta = np.degrees(np.arccos(np.clip(vector[2] / size, -1.0, 1.0)))
    return float(theta), float(np.degrees(np.arctan2(vector[1], vector[0])) % 360.0)


def floats(values: Sequence[float] | NDArray[np.float64], digits: int = 12) -> str:
    """Numbers of a line of an input file."""
    return " ".join(f"{float(value) + 0.0:.{digits}f}" for value in values)
