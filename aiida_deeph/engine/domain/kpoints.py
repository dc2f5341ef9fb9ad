"""k-points: Gamma-centred meshes, lists, and what a calculation chooses; for paths see `kpath`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.kpath import KPoints, parse_path, path_kpoints
from aiida_deeph.engine.errors import InputError

MOST_KPOINTS = 500_000
"""k-points of one calculation at most; more are a slip of the pen, and would fill the memory before anything starts."""

FERMI_SPACING = 0.15
"""Distance of the k-points of an automatic mesh, 1/Angstrom (with 2 pi)."""

FERMI_WORK = 2e12
"""Rows cubed times k-points up to which that mesh is kept (about a minute of one core)."""


def periodic_directions(data: RealSpaceHamiltonian) -> tuple[bool, bool, bool]:
    """Lattice vectors along which the bands disperse: periodic ones along which some atom pair reaches another cell."""
    reach = np.zeros(3, dtype=bool)
    for matrix in (data.hamiltonian, data.overlap):
        if matrix is not None and len(matrix):
            reach |= matrix.atom_pairs[:, :3].any(axis=0)
    a, b, c = (bool(p and r) for p, r in zip(data.structure.pbc, reach, strict=True))
    return a, b, c


def mesh_indices(mesh: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Points of a mesh as integers, the last one running fastest, shape (n_k, 3).

    n / mesh are the k-points, n the cells of the supercell that the mesh spans.
    """
    a, b, c = mesh
    return np.indices((int(a), int(b), int(c))).reshape(3, -1).T


def gamma_mesh(
    mesh: tuple[int, int, int], *, time_reversal: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gamma-centred mesh: fractional k-points in (-1/2, 1/2], shape (n_k, 3), and weights that sum to 1, shape (n_k,).

    :param time_reversal: keep one of k and -k.
    """
    points = mesh_indices(mesh)
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


def mesh_for_width(
    cell: ArrayLike, periodic: Sequence[bool], width: float, repeated: tuple[int, int, int] = (1, 1, 1)
) -> tuple[int, int, int]:
    """Smallest odd mesh whose supercell is wider than `width` (Angstrom) along each periodic direction.

    H(R) is complete only if the supercell of the mesh exceeds twice the range of H; an odd mesh has R and -R alike.

    :param repeated: the cell is repeated so often along its vectors.
    """
    heights = np.array(repeated) / np.linalg.norm(np.linalg.inv(np.asarray(cell)), axis=0)
    counts = [int(np.ceil(width / h - 1e-9)) if p else 1 for h, p in zip(heights, periodic, strict=True)]
    a, b, c = (max(1, n + (n + 1) % 2) for n in counts)
    return a, b, c


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


def check_number(count: float, where: str) -> None:
    """Refuse more k-points than anybody means.

    :raises InputError: more than `MOST_KPOINTS`.
    """
    if count > MOST_KPOINTS:
        raise InputError("far too many k-points", where=where, found=f"{count:.3g}", expected=f"at most {MOST_KPOINTS}")
