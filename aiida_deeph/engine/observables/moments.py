"""Chebyshev moments of a density of states: the spectrum of the largest systems, with statistical errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.linalg.kpm import (
    REACH,
    Interval,
    level_weights,
    local_moments,
    random_moments,
    spectral_interval,
)
from aiida_deeph.engine.linalg.sparse import SparseSolver, smallest_overlap
from aiida_deeph.engine.linalg.symbolic import Factorisation
from aiida_deeph.engine.observables.fermi_sparse import guess_level
from aiida_deeph.engine.observables.projection import Projection

LEVEL_MARGIN = 1.0
"""How far (eV) the Fermi level may be above its first guess before the resolution at the top of a window suffers."""

SINGLE_LIMIT = 20_000
"""Rows of H(k) above which `auto` computes moments in a window in single precision, whose errors stay far below those
of the random vectors: half the memory of the factor, and the time is that of reading it."""

MOST_MOMENTS = 1_000_000
"""Moments that anybody waits for: more are asked for by a broadening that is a slip of the pen."""


@dataclass(frozen=True)
class Pencil:
    """What moments are computed of.

    :param matrices: both matrices, the factors of the second one and the interval of the eigenvalues.
    """

    matrices: tuple[sp.csr_matrix, sp.csr_matrix, Factorisation, Interval]
    n_moments: int


@dataclass(frozen=True)
class MomentsSettings:
    """How moments are computed.

    :param broadening: Gaussian width to resolve, eV.
    :param highest: end of the window above the Fermi level, eV; None for the whole spectrum.
    :param filling: share of all states that is occupied; matters with a window only.
    :param precision: `auto`, `single` or `double`.
    :param workers: processes that share the random vectors.
    """

    broadening: float
    highest: float | None
    filling: float
    n_vectors: int
    seed: int
    precision: str
    workers: int


def moments_at(
    solver: SparseSolver,
    k: NDArray[np.float64],
    channel: int,
    groups: Projection,
    settings: MomentsSettings,
    show_progress: bool | None,
) -> dict[str, NDArray[Any]]:
    """Moments at one k-point: `total` (n_vectors, n_moments), `groups` (n_moments, n_groups), the interval, and more.

    :raises InputError: the broadening asks for far too many moments.
    """
    smallest = smallest_overlap(solver.matrices.at(k, channel)[1])
    pencil = pencil_at(solver, k, channel, settings)
    n = pencil.n_moments
    moments = random_moments(
        *pencil.matrices,
        n,
        settings.n_vectors,
        groups.matrix,
        atom_of_row=solver.matrices.atom_of_row,
        seed=settings.seed,
        workers=settings.workers,
        show_progress=show_progress,
    )
    shares = moments.groups
    if groups.atoms:
        rows = groups.rows_of_atoms()
        local = local_moments(*pencil.matrices, n, rows, show_progress=show_progress)
        # Exact, unlike the share of the random vectors: all rows of an atom together.
        sums = groups.matrix[len(groups.shells) :][:, rows]
        shares[:, len(groups.shells) :] = (sums @ local.T).T
    interval = pencil.matrices[3]
    return {
        "total": moments.total,
        "groups": shares,
        "interval": np.array(
            [interval.centre, interval.half_width, np.nan if interval.pole is None else interval.pole]
        ),
        "smallest_overlap": np.array(smallest),
        "single": np.array(pencil.matrices[0].dtype in (np.float32, np.complex64)),
    }


def pseudo_levels(
    arrays: dict[str, NDArray[Any]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Energies (n,) in eV, states that each counts for by each random vector (n, n_vectors), and by groups."""
    centre, half_width, pole = arrays["interval"].tolist()
    interval = Interval(centre, half_width, None if np.isnan(pole) else pole)
    energies = interval.levels(arrays["total"].shape[1])
    return energies, level_weights(arrays["total"].T), level_weights(arrays["groups"])


def pencil_at(solver: SparseSolver, k: NDArray[np.float64], channel: int, settings: MomentsSettings) -> Pencil:
    """S^-1 H for the whole spectrum; with a window (H - pole S)^-1 S, whose moments are fewer."""
    matrices, width = solver.matrices, settings.broadening
    where = f"k = {np.round(k, 6).tolist()}"
    h, s = matrices.at(k, channel)
    if settings.highest is None:
        factors = solver.factor_overlap(s, where=where)
        interval = spectral_interval(h, s, factors)
        return Pencil((h, s, factors, interval), _affordable(interval.n_moments(width)))
    level, _, bottom = guess_level(matrices, settings.filling)
    highest = level + settings.highest + REACH * width + LEVEL_MARGIN
    reach = max(highest - bottom, 1.0)
    pole = bottom - reach
    single = settings.precision == "single" or (settings.precision == "auto" and matrices.n_rows > SINGLE_LIMIT)
    while True:
        shifted = sp.csr_matrix((h.data - pole * s.data, h.indices, h.indptr), shape=h.shape, copy=False)
        if single:
            h = None  # of the largest systems the factorisation needs its room
            s, shifted = _single(s), _single(shifted)
        factors = solver.factor(shifted.data)
        if not factors.n_negative:
            break
        if pole < bottom - 50 * reach:  # H - pole S stays indefinite only if S is
            solver.factor_overlap(s, where=where)
        pole -= 2 * (bottom - pole)
        h, s = matrices.at(k, channel)
    interval = spectral_interval(s, shifted, factors, pole=pole)
    return Pencil((s, shifted, factors, interval), _affordable(interval.n_moments(width, highest)))


def _affordable(n_moments: int) -> int:
    if n_moments > MOST_MOMENTS:
        raise InputError(
            "far too many moments", where="broadening", found=n_moments, expected=f"a width of at most {MOST_MOMENTS}"
        )
    return n_moments


def _single(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """The same matrix in single precision, its pattern shared."""
    dtype = np.complex64 if np.iscomplexobj(matrix.data) else np.float32
    return sp.csr_matrix((matrix.data.astype(dtype), matrix.indices, matrix.indptr), shape=matrix.shape, copy=False)
