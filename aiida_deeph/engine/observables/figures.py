"""Figures of bands and of curves over energy: matplotlib alone, from plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_deeph.engine.domain.kpath import KPoints
from aiida_deeph.engine.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("tab:blue", "tab:orange")
GAMMA = "$\\Gamma$"
DPI = 200


def new_figure(width: float, height: float) -> Figure:
    """A figure that needs no display, inches.

    :raises InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("matplotlib is not installed", remedy="pip install matplotlib") from None
    return Figure(figsize=(width, height), layout="constrained", dpi=DPI)


def path_distances(kpoints: ArrayLike, cell: ArrayLike, labels: Sequence[tuple[int, str]] = ()) -> NDArray[np.float64]:
    """Length of a path up to each k-point, 1/Angstrom (with 2 pi); between two neighbouring labels the path breaks.

    :param kpoints: fractional, shape (n_k, 3).
    :param cell: lattice vectors in rows, Angstrom.
    """
    named = {index for index, _ in labels}
    breaks = tuple(n for n in named if n - 1 in named) if len(named) < len(np.asarray(kpoints)) else ()
    return KPoints(np.asarray(kpoints, dtype=np.float64), breaks=breaks).distances(cell)


def draw_bands(
    axes: Axes,
    distances: ArrayLike,
    energies: ArrayLike,
    *,
    labels: Sequence[tuple[int, str]] = (),
    zero: float | None = None,
    weights: ArrayLike | None = None,
    ghosts: ArrayLike | None = None,
    window: tuple[float, float] | None = None,
    legend: str | None = None,
) -> None:
    """Bands along a path; both spins in two colours. A k-point that stands alone is drawn as points.

    :param distances: shape (n_k,), 1/Angstrom.
    :param energies: shape (n_spin, n_k, n_bands), eV.
    :param zero: energy that becomes zero (the Fermi level), eV; None keeps the energies as they are.
    :param weights: spectral weights of unfolded bands, in the shape of the energies: points of that size take the place
        of lines.
    :param ghosts: [spin, k, band] of states that must not be trusted, circled in red.
    :param window: lowest and highest energy shown, eV, relative to `zero`.
    :param legend: what these bands are called, beside others that are drawn already; None shows no legend.
    """
    x, e = np.asarray(distances), np.asarray(energies, dtype=np.float64) - (zero or 0.0)
    marks = [(index, GAMMA if name in ("G", "GAMMA") else name) for index, name in labels]
    for spin, (channel, colour) in enumerate(zip(e, COLOURS, strict=False)):
        if weights is not None:
            share = np.clip(np.asarray(weights)[spin], 0.0, 1.0)
            axes.scatter(np.repeat(x, e.shape[2]), channel.ravel(), 12 * share.ravel(), colour, linewidths=0)
            continue
        _draw_pieces(axes, x, channel, color=colour, linewidth=0.8, zorder=2 - spin)
    for spin, k, band in np.asarray(ghosts if ghosts is not None else (), dtype=np.int64).reshape(-1, 3):
        axes.plot(x[k], e[spin, k, band], "o", markersize=5, markerfacecolor="none", markeredgecolor="tab:red")
    ticks: dict[float, str] = {}
    for index, name in marks:
        ticks[float(x[index])] = f"{ticks[float(x[index])]}|{name}" if float(x[index]) in ticks else name
    axes.set_xticks(list(ticks), list(ticks.values()))
    for place in ticks:
        axes.axvline(place, color="0.8", linewidth=0.5, zorder=0)
    if zero is not None:
        axes.axhline(0.0, color="0.5", linewidth=0.6, linestyle="--", zorder=0)
    axes.set_xlim(*((x[0], x[-1]) if x[-1] > x[0] else (x[0] - 0.5, x[0] + 0.5)))
    if legend is not None:
        axes.plot([], [], color=COLOURS[0], linewidth=0.8, label=legend)
        axes.legend(frameon=False, fontsize="small", loc="upper right")
    axes.set_ylabel("E (eV)" if zero is None else "E - E$_F$ (eV)")
    if window is not None:
        axes.set_ylim(*window)


def draw_reference(axes: Axes, distances: ArrayLike, energies: ArrayLike, name: str) -> None:
    """Bands to judge others by, in grey below them.

    :param distances: shape (n_k,), 1/Angstrom.
    :param energies: shape (n_spin, n_k, n_bands), eV, on the zero of the others.
    :param name: in the legend.
    """
    x = np.asarray(distances)
    for channel in np.asarray(energies, dtype=np.float64):
        _draw_pieces(axes, x, channel, color="0.6", linewidth=2.0, zorder=0)
    axes.plot([], [], color="0.6", linewidth=2.0, label=name)


def _draw_pieces(axes: Axes, x: NDArray[np.float64], channel: NDArray[np.float64], **style: Any) -> None:
    """Bands as lines between the breaks of their path, shape (n_k, n_bands); where one k-point stands alone, points."""
    for piece in np.split(np.arange(len(x)), np.flatnonzero(np.diff(x) == 0) + 1):
        single: dict[str, Any] = {"marker": "_", "markersize": 14, "linestyle": "none"} if len(piece) == 1 else {}
        axes.plot(x[piece], channel[piece], **style, **single)


def draw_curve(
    axes: Axes,
    energies: ArrayLike,
    total: ArrayLike,
    *,
    parts: Mapping[str, ArrayLike] | None = None,
    spins: ArrayLike | None = None,
    error: ArrayLike | None = None,
    zero: float | None = None,
    window: tuple[float, float] | None = None,
    quantity: str = "DOS (states/eV/cell)",
) -> None:
    """A curve over energy, with its parts.

    :param energies: shape (n_points,), eV.
    :param total: shape (n_points,).
    :param parts: named curves beside it, e.g. by element.
    :param spins: both channels, shape (2, n_points): the second is drawn downwards, `total` not at all.
    :param error: standard error of the total, shape (n_points,): a band around it.
    :param zero: energy that becomes zero (the Fermi level), eV.
    :param window: lowest and highest energy shown, eV, relative to `zero`.
    :param quantity: what is drawn, and its unit.
    """
    x, y = np.asarray(energies) - (zero or 0.0), np.asarray(total)
    if spins is not None:
        for curve, sign, colour in zip(np.asarray(spins), (1, -1), COLOURS, strict=True):
            axes.fill_between(x, sign * curve, color=colour, alpha=0.4, linewidth=0)
    else:
        axes.plot(x, y, color="black", linewidth=0.9, label="total")
        if error is not None:
            axes.fill_between(x, y - np.asarray(error), y + np.asarray(error), color="0.7", linewidth=0)
        for name, curve in (parts or {}).items():
            axes.plot(x, np.asarray(curve), linewidth=0.8, label=name)
        axes.set_ylim(bottom=0)
        if parts:
            axes.legend(frameon=False, fontsize="small")
    if zero is not None:
        axes.axvline(0.0, color="0.5", linewidth=0.6, linestyle="--", zorder=0)
    axes.set_xlim(*(window or (x[0], x[-1])))
    axes.set_xlabel("E (eV)" if zero is None else "E - E$_F$ (eV)")
    axes.set_ylabel(quantity)
