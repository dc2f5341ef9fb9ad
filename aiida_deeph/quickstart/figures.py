"""The figures of the report as SVG text. Objects of matplotlib only, no pyplot: nothing global is changed."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from aiida_deeph.quickstart.results import BandsComparison, ChainSpectrum
from aiida_deeph.report.error_tables import DistanceErrors, PairErrors

INK, GREY, BLUE, ORANGE = "#22303c", "#8a959e", "#1f77b4", "#e4572e"
STYLE = {
    "font.size": 10,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "aiida-deeph",
}


def to_svg(draw: Callable[[Axes], None], width: float = 6.4, height: float = 4.0) -> str:
    """Draw on one pair of axes and give the SVG element."""
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        stream = io.StringIO()
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None})
    return re.sub(r"^.*?(?=<svg)", "", stream.getvalue(), count=1, flags=re.DOTALL)


def distance_errors(errors: DistanceErrors) -> str:
    """Mean |H| and mean |dH| of the test cells by distance."""

    def draw(axes: Axes) -> None:
        places = np.arange(len(errors.names))
        axes.semilogy(places, errors.size_mev, "o-", color=GREY, lw=1.2, label="mean |H|")
        axes.semilogy(places, errors.mae_mev, "o-", color=BLUE, lw=1.6, label="mean |ΔH|")
        axes.set_xticks(places, errors.names)
        axes.set(xlabel="distance of the atoms (Å)", ylabel="meV")
        axes.grid(axis="y", color="#e8ecef", lw=0.8)
        axes.legend()

    return to_svg(draw)


def pair_errors(errors: PairErrors) -> str:
    """Mean |dH| of the test cells, one square per pair of shells."""

    def draw(axes: Axes) -> None:
        values = np.ma.masked_invalid(errors.mae_mev)
        image = axes.imshow(values, cmap="Blues", vmin=0)
        top = float(values.max()) if values.count() else 0.0
        for (row, column), value in np.ndenumerate(errors.mae_mev):
            if np.isfinite(value):
                color = "white" if value > 0.6 * top else INK
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=color, fontsize=9)
        axes.set_xticks(range(len(errors.labels)), errors.labels)
        axes.set_yticks(range(len(errors.labels)), errors.labels)
        axes.spines[:].set_visible(False)
        axes.figure.colorbar(image, ax=axes, label="mean |ΔH| (meV)", shrink=0.9)

    return to_svg(draw, 5.2, 4.2)


def bands(comparison: BandsComparison) -> str:
    """Bands of the predicted H over those of the direct DFT run."""

    def draw(axes: Axes) -> None:
        zero = comparison.reference[:, comparison.n_occupied - 1].max()
        reference, predicted = comparison.reference - zero, comparison.predicted - zero
        axes.plot(comparison.distances, reference, color=INK, lw=1.6)
        step = max(1, len(comparison.distances) // 30)
        axes.plot(comparison.distances[::step], predicted[::step], "o", color=ORANGE, ms=3.6, mfc="none", mew=1.1)
        axes.plot([], [], color=INK, lw=1.6, label=f"{comparison.title}, DFT")
        axes.plot([], [], "o", color=ORANGE, ms=4, mfc="none", label=f"{comparison.title}, predicted H")
        for position, _ in comparison.ticks:
            axes.axvline(position, color="#d7dde1", lw=0.8, zorder=0)
        axes.axhline(0, color=GREY, lw=0.8, ls=":")
        axes.set_xticks([position for position, _ in comparison.ticks], [name for _, name in comparison.ticks])
        axes.set(ylabel="E - E(valence band maximum) (eV)", ylim=(-9, 6))
        axes.margins(x=0)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    return to_svg(draw, 5.6, 5.0)


def spectrum(chain: ChainSpectrum, window: float = 3.0) -> str:
    """DOS of the long chain around its half-filled state."""

    def draw(axes: Axes) -> None:
        energies, dos = chain.energies - chain.midgap, chain.dos / chain.n_units
        near = np.abs(energies) <= window
        axes.fill_between(energies[near], dos[near], color=BLUE, alpha=0.18, lw=0)
        axes.plot(energies[near], dos[near], color=BLUE, lw=1.5)
        top, peak = float(dos[near].max()), float(dos[np.argmin(np.abs(energies))])
        axes.annotate(
            "soliton: one mid-gap state, half filled",
            xy=(0, peak),
            xytext=(0, 1.12 * top),
            ha="center",
            color=ORANGE,
            arrowprops={"arrowstyle": "->", "color": ORANGE, "shrinkB": 3},
        )
        levels = chain.levels - chain.midgap
        inside = levels[np.abs(levels) <= window]
        low = -0.04 * top
        axes.vlines(inside, 2.2 * low, 0.6 * low, color=GREY, lw=0.6)
        axes.vlines([0.0], 2.2 * low, 0.6 * low, color=ORANGE, lw=1.6)
        axes.set_ylim(2.8 * low, 1.2 * top)
        axes.set(xlabel="E - E(half-filled state) (eV)", ylabel="DOS (states / eV / CH)", title=chain.title)
        axes.margins(x=0)

    return to_svg(draw, 7.2, 4.0)
