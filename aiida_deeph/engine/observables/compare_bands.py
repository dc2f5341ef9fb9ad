"""Two sets of bands against each other, aligned in energy: numpy only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_deeph.engine.errors import InputError

Alignment = Literal["mean_occupied", "valence_maximum", "none"]


@dataclass(frozen=True)
class BandComparison:
    """How far bands are from a reference, after a rigid shift.

    :param shift: eV that was added to the bands (the zero of energy of a Hamiltonian is arbitrary).
    :param alignment: how the shift was chosen: `mean_occupied` (mean difference of the occupied bands is zero),
        `valence_maximum` (valence band maxima coincide) or `none`.
    :param mean: mean |deviation| of the occupied and the lowest conduction bands, eV.
    :param maximum: largest such deviation, eV.
    :param occupied_mean: mean |deviation| of the occupied bands alone, eV.
    :param occupied_maximum: largest deviation of the occupied bands, eV.
    :param conduction_mean: mean |deviation| of the lowest conduction bands, eV; None without one.
    :param conduction_maximum: largest deviation of those, eV; None without one.
    :param gap: of the bands over these k-points, eV; None without a conduction band.
    :param reference_gap: of the reference, eV.
    :param gap_difference: gap - reference_gap, eV.
    :param n_occupied: occupied bands per spin channel.
    :param n_conduction: conduction bands compared.
    :param n_kpoints: k-points compared.
    :param window_mean: mean |deviation| of the states of the window, eV; None without a window or states in it.
    :param window_maximum: largest deviation of those, eV.
    :param n_window: states of the window.
    """

    shift: float
    alignment: Alignment
    mean: float
    maximum: float
    occupied_mean: float
    occupied_maximum: float
    conduction_mean: float | None
    conduction_maximum: float | None
    gap: float | None
    reference_gap: float | None
    gap_difference: float | None
    n_occupied: tuple[int, ...]
    n_conduction: int
    n_kpoints: int
    window_mean: float | None = None
    window_maximum: float | None = None
    n_window: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, all energies in eV."""
        return asdict(self) | {"n_occupied": list(self.n_occupied)}


def compare_bands(
    bands: ArrayLike,
    reference: ArrayLike,
    n_occupied: int | tuple[int, ...],
    *,
    n_conduction: int = 1,
    alignment: Alignment = "mean_occupied",
    window: tuple[float, float] | None = None,
) -> BandComparison:
    """Compare bands at the same k-points, from the lowest band on.

    :param bands: shape (n_spin, n_k, n_bands) or (n_k, n_bands), eV.
    :param reference: the same k-points, eV; the numbers of bands may differ above those compared.
    :param n_occupied: occupied bands, one number or one per spin channel.
    :param n_conduction: how many of the lowest conduction bands are compared beside them (fewer if fewer are there).
    :param window: energies of the reference, eV from its valence band maximum, whose states are compared in addition.
    :raises InputError: different spins or k-points, or fewer bands than are occupied.
    """
    a, b = _three_axes(bands, "bands"), _three_axes(reference, "reference bands")
    if a.shape[:2] != b.shape[:2]:
        raise InputError(
            "bands cannot be compared", found=f"{a.shape[:2]} and {b.shape[:2]} (spins, k-points)", expected="the same"
        )
    filled = (n_occupied,) * len(a) if isinstance(n_occupied, int) else tuple(int(n) for n in n_occupied)
    n_bands = min(a.shape[2], b.shape[2])
    if len(filled) != len(a) or not all(0 <= n <= n_bands for n in filled) or not any(filled):
        raise InputError(
            "occupied bands do not fit",
            where="n_occupied",
            found=filled,
            expected=f"one number per spin channel, at most {n_bands}",
        )
    a, b = np.sort(a, axis=2), np.sort(b, axis=2)
    n_conduction = min(n_conduction, n_bands - max(filled))
    difference = a[:, :, :n_bands] - b[:, :, :n_bands]
    occupied = np.concatenate([difference[s, :, :n].ravel() for s, n in enumerate(filled)])
    conduction = np.concatenate([difference[s, :, n : n + n_conduction].ravel() for s, n in enumerate(filled)])
    top, reference_top = (max(float(e[s, :, n - 1].max()) for s, n in enumerate(filled) if n) for e in (a, b))
    shift = {"mean_occupied": -float(occupied.mean()), "valence_maximum": reference_top - top, "none": 0.0}[alignment]
    occupied, conduction = np.abs(occupied + shift), np.abs(conduction + shift)
    both = np.concatenate([occupied, conduction])
    gap = reference_gap = None
    if n_conduction:
        gap, reference_gap = (
            min(float(e[s, :, n].min()) for s, n in enumerate(filled)) - t for e, t in ((a, top), (b, reference_top))
        )
    inside = np.zeros(0)
    if window is not None:
        low, high = (reference_top + edge for edge in window)
        inside = np.abs(difference + shift)[(b[:, :, :n_bands] >= low) & (b[:, :, :n_bands] <= high)]
    return BandComparison(
        shift=shift,
        alignment=alignment,
        mean=float(both.mean()),
        maximum=float(both.max()),
        occupied_mean=float(occupied.mean()),
        occupied_maximum=float(occupied.max()),
        conduction_mean=float(conduction.mean()) if n_conduction else None,
        conduction_maximum=float(conduction.max()) if n_conduction else None,
        gap=gap,
        reference_gap=reference_gap,
        gap_difference=None if gap is None or reference_gap is None else gap - reference_gap,
        n_occupied=filled,
        n_conduction=n_conduction,
        n_kpoints=a.shape[1],
        window_mean=float(inside.mean()) if inside.size else None,
        window_maximum=float(inside.max()) if inside.size else None,
        n_window=int(inside.size) if window is not None else None,
    )


def _three_axes(energies: ArrayLike, name: str) -> NDArray[np.float64]:
    e = np.asarray(energies, dtype=np.float64)
    e = e[None] if e.ndim == 2 else e
    if e.ndim != 3 or not np.isfinite(e).all():
        raise InputError(
            f"{name} have the wrong form", found=f"shape {e.shape}", expected="finite energies (spin, k, band)"
        )
    return e
