"""OpenMX's band energies, `.Band`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.dft.openmx.input import straight_pieces
from aiida_deeph.engine.errors import DataError


@dataclass(frozen=True)
class OpenmxBands:
    """Eigenvalues that OpenMX itself computed.

    :param kpoints: fractional, in the order of the file, shape (n_kpoints, 3).
    :param energies: Hartree, ascending, shape (n_spins, n_kpoints, n_bands); two spins if collinear.
    :param fermi_energy: Hartree.
    :param labels: of the two ends of each path.
    :param counts: k-points of each path, both ends included.
    """

    kpoints: NDArray[np.float64]
    energies: NDArray[np.float64]
    fermi_energy: float
    labels: tuple[tuple[str, str], ...]
    counts: tuple[int, ...] = ()

    @property
    def points_of_labels(self) -> list[tuple[int, str]]:
        """Index of the k-point at each end of each path, and its label."""
        ends = np.cumsum(self.counts).tolist()
        places = [(end - count, end - 1) for end, count in zip(ends, self.counts, strict=True)]
        pairs = zip(places, self.labels, strict=True)
        return [(k, label) for two, names in pairs for k, label in zip(two, names, strict=True)]


def parse_bands(text: str) -> OpenmxBands:
    """Parse the text of a `.Band` file.

    Bands, spin flag and Fermi level; reciprocal vectors; number of paths; each path with its number of points, ends
    and labels; then two lines per k-point and spin, a k-point's spins one after the other.

    :raises DataError: the text is no `.Band` file, or is cut off.
    """
    try:
        lines = iter([line.split() for line in text.splitlines() if line.strip()])
        n_bands, spin, fermi = next(lines)
        n_spins = int(spin) + 1
        next(lines)
        paths = [next(lines) for _ in range(int(next(lines)[0]))]
        n_points = sum(int(path[0]) for path in paths)
        kpoints = np.empty((n_points, n_spins, 3))
        energies = np.empty((n_points, n_spins, int(n_bands)))
        for k in range(n_points):
            for s in range(n_spins):
                kpoints[k, s] = [float(word) for word in next(lines)[1:]]
                energies[k, s] = [float(word) for word in next(lines)]
        if n_points == 0 or (kpoints != kpoints[:, :1]).any():
            raise ValueError("k-points of the two spins differ")
        labels = tuple((path[7], path[8]) for path in paths)
        counts = tuple(int(path[0]) for path in paths)
        return OpenmxBands(kpoints[:, 0], energies.transpose(1, 0, 2), float(fermi), labels, counts)
    except (ValueError, IndexError, StopIteration) as error:
        raise DataError("band energies are damaged", where=".Band file", found=error or "its end") from None


def rows_of(kpoints: NDArray[np.float64], computed: NDArray[np.float64]) -> NDArray[np.int64]:
    """Row of OpenMX's list that holds each k-point of the list asked for, shape (n_k,).

    :param computed: k-points in the order of the `.Band` file, shape (n, 3).
    :raises DataError: they are not the points asked for.
    """
    pieces = straight_pieces(kpoints)
    starts = np.cumsum([0, *(piece.written for piece in pieces)])
    rows = np.concatenate([start + np.arange(piece.count) for start, piece in zip(starts, pieces, strict=False)])
    if len(computed) != starts[-1] or np.abs(computed[rows] - kpoints).max() > 1e-6:
        raise DataError(
            "other k-points than those asked for",
            where=".Band file",
            found=f"{len(computed)} points",
            expected=f"the {len(kpoints)} points of the input, {starts[-1]} with repetitions",
        )
    return rows
