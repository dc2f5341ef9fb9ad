"""Paths through special points of chains, layers and crystals."""

from __future__ import annotations

import itertools
import re
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError

TOLERANCE = 1e-3
"""Relative difference up to which lengths (and cosines) count as equal when the lattice is recognised."""

GAMMA_NAMES = {"GAMMA", "\u0393", "\\GAMMA", "GM"}

LAYER_PATHS = ("G-M-K-G", "G-X-M-G", "G-X-S-Y-G", "G-X-C-Y-G")


@dataclass(frozen=True)
class KPoints:
    """k-points in an order, some of them named.

    :param fractional: shape (n_k, 3), in reciprocal lattice vectors.
    :param labels: (index, name) of the named ones.
    :param breaks: indices at which a new piece of the path begins without a connection to the point before.
    """

    fractional: NDArray[np.float64]
    labels: tuple[tuple[int, str], ...] = ()
    breaks: tuple[int, ...] = ()

    def distances(self, cell: ArrayLike) -> NDArray[np.float64]:
        """Length of the path up to each point, 1/Angstrom (with 2 pi), shape (n_k,); breaks add nothing."""
        cartesian = self.fractional @ (2 * np.pi * np.linalg.inv(np.asarray(cell, dtype=np.float64)).T)
        steps = np.linalg.norm(np.diff(cartesian, axis=0), axis=1)
        steps[[b - 1 for b in self.breaks]] = 0.0
        return np.concatenate([[0.0], np.cumsum(steps)])


def special_points(cell: ArrayLike, periodic: tuple[bool, bool, bool]) -> dict[str, NDArray[np.float64]]:
    """Fractional coordinates of the special points of the Bravais lattice, found from the lattice vectors alone.

    Layers: G, M, K (hexagonal, both the 60 and the 120 degree cell), G, X, M (square), G, X, Y, S (rectangular), G, X,
    Y, C (oblique: halves of the reduced reciprocal vectors). Chains: G, X. Crystals: seekpath, else ase.

    :param cell: lattice vectors in rows, Angstrom.
    :param periodic: directions along which bands disperse.
    """
    cell = np.asarray(cell, dtype=np.float64)
    axes = [n for n in range(3) if periodic[n]]
    gamma = {"G": np.zeros(3)}
    if not axes:
        return gamma
    if len(axes) == 1:
        edge = np.zeros(3)
        edge[axes[0]] = 0.5
        return {**gamma, "X": edge}
    if len(axes) == 2:
        return {**gamma, **_layer_points(cell, axes)}
    return {**gamma, **_crystal_points(cell)}


def _layer_points(cell: NDArray[np.float64], axes: list[int]) -> dict[str, NDArray[np.float64]]:
    u, v = _reduced(cell[axes[0]], cell[axes[1]])
    # Reduced lattice vectors with an obtuse or right angle: the textbook coordinates hold for their reciprocal vectors.
    length_u, length_v = np.linalg.norm(u), np.linalg.norm(v)
    cosine = u @ v / (length_u * length_v)
    same = abs(length_u - length_v) < TOLERANCE * length_u
    if same and abs(cosine + 0.5) < TOLERANCE:
        points = {"M": (0.5, 0.0), "K": (1 / 3, 1 / 3)}
    elif same and abs(cosine) < TOLERANCE:
        points = {"X": (0.5, 0.0), "M": (0.5, 0.5)}
    elif abs(cosine) < TOLERANCE:
        points = {"X": (0.5, 0.0), "Y": (0.0, 0.5), "S": (0.5, 0.5)}
    else:
        points = {"X": (0.5, 0.0), "Y": (0.0, 0.5), "C": (0.5, 0.5)}
    # k is the same vector in both descriptions: k.u and k.v are fractional coordinates over 2 pi in the reduced cell.
    to_given = cell[axes] @ np.linalg.pinv(np.array([u, v]))  # given vectors in terms of the reduced ones, integers
    result = {}
    for name, reduced in points.items():
        k = np.zeros(3)
        k[axes] = np.rint(to_given) @ np.array(reduced)
        result[name] = k
    return result


def _reduced(u: NDArray[np.float64], v: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two shortest vectors of a plane lattice (Lagrange-Gauss), u.v <= 0, in the order of their lengths as given."""
    swapped = u @ u > v @ v * (1 + TOLERANCE)
    short, long = (v, u) if swapped else (u, v)
    while True:
        # Slightly less than the projection: a 60 degree cell stays as it is instead of turning for ever.
        steps = np.rint(short @ long / (short @ short) * (1 - TOLERANCE))
        long = long - steps * short
        if long @ long < short @ short * (1 - TOLERANCE):
            short, long = long, short
        elif steps == 0:
            break
    if short @ long > TOLERANCE * (short @ short):
        long = -long
    return (long, short) if swapped else (short, long)


def _crystal_points(cell: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    try:
        import seekpath
    except ImportError:
        from ase.cell import Cell

        return {
            name: np.array(k, dtype=np.float64)
            for name, k in Cell(cell).bandpath(npoints=0).special_points.items()  # type: ignore[no-untyped-call]
        }
    # One atom at the origin: the lattice alone decides, so a perturbed cell keeps the points of its lattice.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # seekpath's way of calling spglib
        found = seekpath.get_path_orig_cell((cell, [[0.0, 0.0, 0.0]], [1]), symprec=TOLERANCE)
    points = {name.replace("GAMMA", "G"): np.array(k, dtype=np.float64) for name, k in found["point_coords"].items()}
    return {name.replace("_", ""): k for name, k in points.items()}


def parse_path(path: str) -> list[list[str]]:
    """Names of a path such as `G-K-M-G` or `G-X|Y-G` (a bar separates unconnected pieces).

    :raises InputError: a piece of fewer than two points.
    """
    pieces = [[name.strip() for name in piece.split("-")] for piece in re.split(r"[|,]", path)]
    if not all(len(piece) >= 2 and all(piece) for piece in pieces):
        raise InputError(
            "k-path cannot be read", where="kpath", found=repr(path), expected="points joined by '-', e.g. G-K-M-G"
        )
    return [["G" if name.upper() in GAMMA_NAMES else name for name in piece] for piece in pieces]


def path_kpoints(path: str, cell: ArrayLike, periodic: tuple[bool, bool, bool], points_per_segment: int) -> KPoints:
    """k-points along a path, both ends of every segment included.

    :param points_per_segment: points of each segment, its end not counted.
    :raises InputError: a point that this lattice does not have.
    """
    known = special_points(cell, periodic)
    fractional: list[NDArray[np.float64]] = []
    labels: list[tuple[int, str]] = []
    breaks: list[int] = []
    for piece in parse_path(path):
        for name in piece:
            if name not in known:
                dimension = sum(periodic)
                raise InputError(
                    "k-path leaves the Brillouin zone of this cell",
                    where=f"kpath {path}",
                    found=f"point {name} in a cell with dispersion along {dimension} vectors",
                    expected=f"points {', '.join(known)}",
                    remedy="give the k-points by --kpoints FILE if you mean another point",
                )
        if fractional:
            breaks.append(len(fractional))
        for start, end in itertools.pairwise(piece):
            labels.append((len(fractional), start))
            steps = np.arange(points_per_segment)[:, None] / points_per_segment
            fractional.extend(known[start] + steps * (known[end] - known[start]))
        labels.append((len(fractional), piece[-1]))
        fractional.append(known[piece[-1]])
    return KPoints(np.array(fractional), tuple(labels), tuple(breaks))


def default_path(structure: Structure) -> str:
    """A path through the special points of a chain, a layer or a crystal."""
    dimension = sum(structure.pbc)
    if dimension < 2:
        return "G-X" if dimension else "G-G"
    points = special_points(structure.cell, structure.pbc)
    if dimension == 2:
        return next(path for path in LAYER_PATHS if set(path.split("-")) <= set(points))
    import seekpath

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # seekpath's way of calling spglib
        found = seekpath.get_path_orig_cell((structure.cell, [[0.0, 0.0, 0.0]], [1]), symprec=TOLERANCE)["path"]
    pieces: list[list[str]] = []
    for start, end in found:
        if pieces and pieces[-1][-1] == start:
            pieces[-1].append(end)
        else:
            pieces.append([start, end])
    return "|".join("-".join(piece) for piece in pieces).replace("GAMMA", "G").replace("_", "")


def structure_kpoints(structure: Structure, path: str | None, points_per_segment: int) -> KPoints:
    """k-points along a path of a structure; the default one if none is given. A molecule has Gamma alone.

    :raises InputError: a point that this lattice does not have.
    """
    if not any(structure.pbc):
        return KPoints(np.zeros((1, 3)), ((0, "G"),))
    return path_kpoints(path or default_path(structure), structure.cell, structure.pbc, points_per_segment)
