"""k-points: paths through special points of chains, layers and crystals, Gamma-centred meshes, lists."""

from __future__ import annotations

import itertools
import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError

TOLERANCE = 1e-3
"""Relative difference up to which lengths (and cosines) count as equal when the lattice is recognised."""

GAMMA_NAMES = {"GAMMA", "\u0393", "\\GAMMA", "GM"}

MOST_KPOINTS = 500_000
"""k-points of one calculation at most; more are a slip of the pen, and would fill the memory before anything starts."""

FERMI_SPACING = 0.15
"""Distance of the k-points of an automatic mesh, 1/Angstrom (with 2 pi)."""

FERMI_WORK = 2e12
"""Rows cubed times k-points up to which that mesh is kept (about a minute of one core)."""

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


def periodic_directions(data: RealSpaceHamiltonian) -> tuple[bool, bool, bool]:
    """Lattice vectors along which the bands disperse: periodic ones along which some atom pair reaches another cell."""
    reach = np.zeros(3, dtype=bool)
    for matrix in (data.hamiltonian, data.overlap):
        if matrix is not None and len(matrix):
            reach |= matrix.atom_pairs[:, :3].any(axis=0)
    a, b, c = (bool(p and r) for p, r in zip(data.structure.pbc, reach, strict=True))
    return a, b, c


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


def read_kpoints(path: Path) -> KPoints:
    """Read fractional k-points: JSON (a list, or `{"kpoints": [...], "labels": [[index, name], ...]}`) or text rows
    `k1 k2 k3 [name]` with comments after #.

    :raises InputError: the file cannot be read as such.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if text.lstrip()[:1] in "[{":
            values = json.loads(text)
            labels = values.get("labels") or [] if isinstance(values, dict) else []
            points = values["kpoints"] if isinstance(values, dict) else values
        else:
            rows = [line.split("#")[0].split() for line in text.splitlines()]
            rows = [row for row in rows if row]
            points = [[float(x) for x in row[:3]] for row in rows]
            labels = [(n, row[3]) for n, row in enumerate(rows) if len(row) > 3]
        fractional = np.array(points, dtype=np.float64)
        if fractional.ndim != 2 or fractional.shape[1] != 3 or not len(fractional) or not np.isfinite(fractional).all():
            raise ValueError(f"k-points of shape {fractional.shape}")
        return KPoints(fractional, tuple((int(n), str(name)) for n, name in labels))
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(
            "k-points cannot be read",
            where=path,
            found=error,
            expected="three numbers per k-point, as JSON or as rows of text",
        ) from None


def check_directions(fractional: NDArray[np.float64], pbc: tuple[bool, bool, bool], where: str) -> None:
    """Refuse k-points with components along vectors that are not periodic.

    :raises InputError: naming the first such point.
    """
    outside = np.abs(fractional[:, [not p for p in pbc]]).max(axis=1, initial=0.0) > 1e-9
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise InputError(
            "k-point outside the dimensionality of the cell",
            where=where,
            found=f"k-point {row}: {fractional[row].tolist()}",
            expected=f"zero along the non-periodic vectors (pbc {list(pbc)})",
        )


def gamma_mesh(
    mesh: tuple[int, int, int], *, time_reversal: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gamma-centred mesh: fractional k-points in (-1/2, 1/2], shape (n_k, 3), and weights that sum to 1, shape (n_k,).

    :param time_reversal: keep one of k and -k.
    """
    points = np.indices(mesh).reshape(3, -1).T
    weights = np.ones(len(points))
    if time_reversal:
        partner = (-points) % np.array(mesh)
        flat = np.ravel_multi_index(tuple(points.T), mesh)
        flat_partner = np.ravel_multi_index(tuple(partner.T), mesh)
        kept = flat <= flat_partner
        weights = np.where(flat < flat_partner, 2.0, 1.0)[kept]
        points = points[kept]
    fractions = points / np.array(mesh, dtype=np.float64)
    return np.where(fractions > 0.5, fractions - 1, fractions), weights / weights.sum()


def mesh_for_spacing(cell: ArrayLike, periodic: tuple[bool, bool, bool], spacing: float) -> tuple[int, int, int]:
    """Smallest mesh whose points lie at most `spacing` (1/Angstrom, with 2 pi) apart; 1 along non-periodic vectors."""
    lengths = np.linalg.norm(2 * np.pi * np.linalg.inv(np.asarray(cell)).T, axis=1)
    counts = [
        max(1, int(np.ceil(length / spacing - 1e-9))) if p else 1 for length, p in zip(lengths, periodic, strict=True)
    ]
    return counts[0], counts[1], counts[2]


def automatic_mesh(data: RealSpaceHamiltonian, n_rows: int, *, least: int = 1) -> tuple[int, int, int]:
    """A Gamma-centred mesh of `FERMI_SPACING`, made coarser while it would cost more than `FERMI_WORK`.

    Counts beyond one are multiples of three: then hexagonal meshes hold K, where the bands of graphene touch.

    :param n_rows: size of H(k).
    :param least: points along each vector with dispersion, whatever the cost.
    """
    spacing, periodic = FERMI_SPACING, periodic_directions(data)
    while True:
        counts = mesh_for_spacing(data.structure.cell, periodic, spacing)
        a, b, c = (n if n == 1 else 3 * -(-n // 3) for n in counts)
        if a * b * c == 1 or a * b * c * float(n_rows) ** 3 <= FERMI_WORK:
            a, b, c = (max(n, least) if p else n for n, p in zip((a, b, c), periodic, strict=True))
            return a, b, c
        spacing *= 1.5


@dataclass(frozen=True)
class ChosenKPoints(KPoints):
    """k-points of a calculation.

    :param weights: sum 1, shape (n_k,), if the points are those of a mesh.
    :param mesh: which mesh that is.
    """

    weights: NDArray[np.float64] | None = None
    mesh: tuple[int, int, int] | None = None


def mesh_kpoints(
    data: RealSpaceHamiltonian, mesh: tuple[int, int, int], where: str = "mesh", *, time_reversal: bool | None = None
) -> ChosenKPoints:
    """The points of a Gamma-centred mesh; one of k and -k where H(R) is real.

    :param where: name of the mesh in error messages.
    :param time_reversal: whether H(R) is real; None looks at its type.
    :raises InputError: points along a vector without periodicity, or far too many.
    """
    check_number(float(np.prod(mesh, dtype=np.float64)), f"{where} {list(mesh)}")
    if time_reversal is None:
        time_reversal = data.hamiltonian is not None and not np.iscomplexobj(data.hamiltonian.entries)
    fractional, weights = gamma_mesh(mesh, time_reversal=time_reversal)
    check_directions(fractional, data.structure.pbc, f"{where} {list(mesh)}")
    return ChosenKPoints(fractional, weights=weights, mesh=mesh)


def choose_kpoints(
    data: RealSpaceHamiltonian,
    *,
    kpoints: ArrayLike | None = None,
    labels: tuple[tuple[int, str], ...] | None = None,
    kpath: str | None = None,
    points_per_segment: int = 40,
    mesh: tuple[int, int, int] | None = None,
    spacing: float | None = None,
    cell: ArrayLike | None = None,
) -> ChosenKPoints:
    """k-points by a list, along a path, on a mesh, or on the mesh of a spacing: whichever is given.

    :param cell: whose path it is, instead of the cell of the data.
    :raises InputError: points that this cell does not have, or far too many.
    """
    if kpath is not None:
        check_number(points_per_segment * sum(map(len, parse_path(kpath))), "points_per_segment")
        cell = data.structure.cell if cell is None else cell
        path = path_kpoints(kpath, cell, periodic_directions(data), points_per_segment)
        return ChosenKPoints(path.fractional, path.labels, path.breaks)
    if spacing is not None:
        mesh = mesh_for_spacing(data.structure.cell, periodic_directions(data), spacing)
    if mesh is not None:
        return mesh_kpoints(data, mesh)
    points = ChosenKPoints(np.array(kpoints, dtype=np.float64).reshape(-1, 3), labels or ())
    if not len(points.fractional) or any(not 0 <= n < len(points.fractional) for n, _ in points.labels):
        raise InputError(
            "k-points are wrong",
            where="kpoints",
            found=f"{len(points.fractional)} points, labels {list(points.labels)}",
            expected="at least one point, and labels by their index",
        )
    check_directions(points.fractional, data.structure.pbc, "kpoints")
    return points


def check_number(count: float, where: str) -> None:
    """Refuse more k-points than anybody means.

    :raises InputError: more than `MOST_KPOINTS`.
    """
    if count > MOST_KPOINTS:
        raise InputError("far too many k-points", where=where, found=f"{count:.3g}", expected=f"at most {MOST_KPOINTS}")


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
