"""Interactive figures as what plotly draws: plain traces and layouts, with a text for those who see none, and the data.

Colours that begin with `@` are names of the page's theme, which has a light and a dark one.
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_deeph.engine.observables.figures import path_distances
from aiida_deeph.report.error_tables import DistanceErrors, PairErrors

PARTS = ("@blue", "@orange", "@green", "@violet", "@red", "@brown")
GAMMA = "\N{GREEK CAPITAL LETTER GAMMA}"
# Points of bands that a page holds: more make it slow, and are not told apart.
MOST_POINTS = 40_000
# Atoms of a picture, for the same reason.
MOST_ATOMS = 5_000


@dataclass(frozen=True)
class Figure:
    """:param key: unique on the page; :param text: what is seen; :param alt: the same for those who cannot see it;
    :param data: CSV.
    """

    key: str
    title: str
    text: str
    alt: str
    traces: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    data: str
    height: int = 420


@dataclass(frozen=True)
class BandLines:
    """Bands on the figure's zero of energy. :param energies: eV, shape (n_spin, n_k, n_bands)."""

    energies: NDArray[np.float64]
    name: str


@dataclass(frozen=True)
class Path:
    """Where bands are. :param kpoints: fractional, shape (n_k, 3); :param cell: Angstrom; :param labels: by index."""

    kpoints: ArrayLike
    cell: ArrayLike
    labels: Sequence[tuple[int, str]] = field(default_factory=tuple)

    @property
    def distances(self) -> NDArray[np.float64]:
        """1/Angstrom, shape (n_k,)."""
        return path_distances(self.kpoints, self.cell, self.labels)


def plain(text: object) -> str:
    """Text that plotly shows as it is: what looks like markup is none."""
    return html.escape(str(text), quote=False)


def table(columns: Mapping[str, Sequence[Any]]) -> str:
    """Columns of equal length as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return stream.getvalue()


def number(value: float) -> float | None:
    """Six digits are enough to look at; what is no number is left out."""
    return float(f"{value:.6g}") if np.isfinite(value) else None


def numbers(values: ArrayLike) -> list[float | None]:
    """The same for many."""
    return [number(value) for value in np.asarray(values, dtype=np.float64).ravel()]


def lines(distances: NDArray[np.float64], channel: NDArray[np.float64], first: int) -> dict[str, list[Any]]:
    """All bands of a spin channel as one line with gaps, also where the path breaks; `customdata` is the band's index.

    :param channel: eV, shape (n_k, n_bands).
    :param first: index of the first band.
    """
    pieces = np.split(np.arange(len(distances)), np.flatnonzero(np.diff(distances) == 0) + 1)
    x: list[float | None] = []
    y: list[float | None] = []
    index: list[int | None] = []
    for band in range(channel.shape[1]):
        for piece in pieces:
            x += [*numbers(distances[piece]), None]
            y += [*numbers(channel[piece, band]), None]
            index += [first + band] * len(piece) + [None]
    return {"x": x, "y": y, "customdata": index}


def bands_figure(
    key: str,
    title: str,
    path: Path,
    predicted: BandLines,
    *,
    reference: BandLines | None = None,
    errors: NDArray[np.float64] | None = None,
    zero: bool = True,
    data: str,
) -> Figure:
    """Bands along a path, beside those of DFT if they are known, with the error at each k-point below.

    :param errors: mean |error| of the bands that are compared, meV, shape (n_k,).
    :param zero: whether energies are counted from the Fermi level.
    """
    distances = path.distances
    shown, first = _shown(predicted.energies, zero)
    traces: list[dict[str, Any]] = []
    hover = "band %{customdata}<br>%{y:.3f} eV<extra>" + plain(predicted.name) + "</extra>"
    single = len(distances) == 1
    if reference is not None:
        others = reference.energies[:, :, first : first + shown.shape[2]]
        for n, channel in enumerate(others):
            traces.append(
                {
                    **lines(distances, channel, first),
                    "name": plain(reference.name) + (f", spin {n}" if len(others) > 1 else ""),
                    "mode": "markers" if single else "lines",
                    "line": {"color": "@muted", "width": 3},
                    "marker": {"color": "@muted", "size": 9, "symbol": "line-ew-open"},
                    "hovertemplate": hover.replace(plain(predicted.name), plain(reference.name)),
                }
            )
    for n, channel in enumerate(shown):
        traces.append(
            {
                **lines(distances, channel, first),
                "name": plain(predicted.name) + (f", spin {n}" if len(shown) > 1 else ""),
                "mode": "markers" if single else "lines",
                "line": {"color": PARTS[n], "width": 1.5},
                "marker": {"color": PARTS[n], "size": 7, "symbol": "line-ew-open"},
                "hovertemplate": hover,
            }
        )
    ticks: dict[float, str] = {}
    for index, name in path.labels:
        place, label = float(distances[index]), GAMMA if name in ("G", "GAMMA") else plain(name)
        ticks[place] = f"{ticks[place]}|{label}" if place in ticks else label
    layout: dict[str, Any] = {
        "xaxis": {
            "tickvals": list(ticks),
            "ticktext": list(ticks.values()),
            "showgrid": bool(ticks),
            "zeroline": False,
        },
        "yaxis": {"title": {"text": "E - E<sub>F</sub> (eV)" if zero else "E (eV)"}},
        "shapes": [_level()] if zero else [],
    }
    words = f"{predicted.energies.shape[2]} bands at {len(distances)} k-points"
    if errors is not None:
        layout["yaxis"]["domain"] = [0.3, 1.0]
        layout["yaxis2"] = {"title": {"text": "error (meV)"}, "domain": [0.0, 0.2], "rangemode": "tozero"}
        layout["xaxis"]["anchor"] = "y2"
        traces.append(
            {
                "x": numbers(distances),
                "y": numbers(errors),
                "yaxis": "y2",
                "name": "mean |error|",
                "mode": "lines+markers",
                "line": {"color": "@red", "width": 1},
                "marker": {"color": "@red", "size": 3},
                "hovertemplate": "%{y:.2f} meV<extra>mean |error|</extra>",
            }
        )
        words += f"; mean error over the path {errors.mean():.1f} meV, at worst {errors.max():.1f} meV at one k-point"
    names = ", ".join(name for name in ticks.values() if name)
    alt = f"{title}: {words}" + (f", along {names}" if names else "") + "."
    text = words + "." if shown.shape[2] == predicted.energies.shape[2] else f"{words}; {shown.shape[2]} of them drawn."
    return Figure(key, title, text, alt, traces, layout, data, 520 if errors is not None else 440)


def _shown(energies: NDArray[np.float64], zero: bool) -> tuple[NDArray[np.float64], int]:
    """As many bands as a page holds, those around the Fermi level, and the index of the first."""
    most = max(1, MOST_POINTS // energies[0, :, 0].size // len(energies))
    n_bands = energies.shape[2]
    if n_bands <= most:
        return energies, 0
    below = int((energies < 0).sum(axis=2).mean()) if zero else n_bands // 2
    first = min(max(below - most // 2, 0), n_bands - most)
    return energies[:, :, first : first + most], first


def _level(vertical: bool = False) -> dict[str, Any]:
    """A dashed line at the Fermi level."""
    along, across = ("y", "x") if vertical else ("x", "y")
    ends = {f"{along}ref": "paper", f"{along}0": 0, f"{along}1": 1, f"{across}0": 0, f"{across}1": 0}
    return {"type": "line", **ends, "line": {"color": "@muted", "width": 1, "dash": "dot"}}


def curve_figure(
    key: str,
    title: str,
    abscissa: ArrayLike,
    curves: Mapping[str, ArrayLike],
    *,
    x_title: str,
    y_title: str,
    error: ArrayLike | None = None,
    fermi: bool = False,
    logarithmic: bool = False,
) -> Figure:
    """Curves over one axis.

    :param curves: name -> values.
    :param error: standard error of the first, drawn as a band around it.
    :param fermi: whether zero is the Fermi level.
    """
    x = np.asarray(abscissa, dtype=np.float64)
    traces: list[dict[str, Any]] = []
    for n, (name, values) in enumerate(curves.items()):
        y = np.asarray(values, dtype=np.float64)
        colour = "@ink" if n == 0 and len(curves) > 1 else PARTS[(n - (len(curves) > 1)) % len(PARTS)]
        style = {"name": plain(name), "mode": "lines+markers" if len(x) < 30 else "lines", "line": {"color": colour}}
        hover = f"%{{x:.4g}}: %{{y:.4g}}<extra>{plain(name)}</extra>"
        traces.append({"x": numbers(x), "y": numbers(y), "hovertemplate": hover, **style})
        if n == 0 and error is not None:
            spread = np.asarray(error, dtype=np.float64)
            edges = {"x": numbers(np.concatenate([x, x[::-1]])), "hoverinfo": "skip", "showlegend": False}
            band = {"y": numbers(np.concatenate([y + spread, (y - spread)[::-1]])), "fill": "toself"}
            traces.append({**edges, **band, "name": "standard error", "mode": "none", "fillcolor": "@veil"})
    y_axis: dict[str, Any] = {"title": {"text": y_title}}
    if logarithmic:
        y_axis |= {"type": "log", "dtick": 1}
    layout = {
        "xaxis": {"title": {"text": x_title}},
        "yaxis": y_axis,
        "shapes": [_level(vertical=True)] if fermi else [],
    }
    first = np.asarray(next(iter(curves.values())), dtype=np.float64)
    top = float(x[int(np.nanargmax(first))])
    alt = (
        f"{title}: {', '.join(map(str, curves))} from {x[0]:.4g} to {x[-1]:.4g}; "
        f"the first is largest, {np.nanmax(first):.4g}, at {top:.4g}, and ends at {first[-1]:.4g}."
    )
    data = table({x_title: x.tolist(), **{name: np.asarray(y).tolist() for name, y in curves.items()}})
    return Figure(key, title, f"{len(x)} points.", alt, traces, layout, data, 360)


def distance_figure(errors: DistanceErrors) -> Figure:
    """Mean |H| and mean |dH| of the test cells by distance of the atoms."""
    style = {"mode": "lines+markers", "x": list(errors.names)}
    traces = [
        {**style, "y": numbers(errors.size_mev), "name": "mean |H|", "line": {"color": "@muted"}},
        {**style, "y": numbers(errors.mae_mev), "name": "mean |ΔH|", "line": {"color": "@blue"}},
    ]
    for trace in traces:
        trace["hovertemplate"] = "%{x}: %{y:.3f} meV"
    layout = {
        "xaxis": {"title": {"text": "distance of the atoms (Å)"}},
        "yaxis": {"type": "log", "title": {"text": "meV"}},
    }
    worst = int(np.nanargmax(errors.mae_mev))
    alt = (
        f"Error of H by distance of the atoms: largest {errors.name_of(worst)}, {errors.mae_mev[worst]:.2f} meV "
        f"of {errors.size_mev[worst]:.0f} meV on average."
    )
    data = table(
        {"distance": list(errors.names), "mae_meV": errors.mae_mev.tolist(), "mean_abs_H_meV": errors.size_mev.tolist()}
    )
    text = "Mean |H| and mean |ΔH| over the cells that the training never saw."
    return Figure("distances", "Error of H by distance", text, alt, traces, layout, data, 360)


def pair_figure(errors: PairErrors) -> Figure:
    """Mean |dH| of the test cells, one square per pair of shells."""
    values = errors.mae_mev
    labels = [plain(label) for label in errors.labels]
    cells = [numbers(row) for row in values]
    traces = [
        {
            "type": "heatmap",
            "x": labels,
            "y": labels,
            "z": cells,
            "colorscale": "Blues",
            "reversescale": True,
            "zmin": 0,
            "colorbar": {"title": {"text": "meV"}},
            "hovertemplate": "%{y}, %{x}: %{z:.2f} meV<extra></extra>",
            "name": "mean |ΔH|",
        }
    ]
    if len(labels) <= 12:
        traces[0] |= {"texttemplate": "%{z:.2f}"}
    row, column = np.unravel_index(int(np.nanargmax(values)), values.shape)
    alt = (
        f"Mean error of H for each of {values.shape[0]} by {values.shape[1]} pairs of shells; largest between "
        f"{errors.labels[row]} and {errors.labels[column]}: {values[row, column]:.2f} meV."
    )
    layout = {"xaxis": {"type": "category"}, "yaxis": {"type": "category", "autorange": "reversed"}}
    columns = {"shell": list(errors.labels)} | {name: values[:, n].tolist() for n, name in enumerate(errors.labels)}
    text, data = "Mean |ΔH| over the same cells.", table(columns)
    return Figure("shells", "Error of H by pair of shells", text, alt, traces, layout, data, 420)


def structure_figure(
    key: str, title: str, symbols: Sequence[str], positions: ArrayLike, values: ArrayLike | None, quantity: str
) -> Figure:
    """Atoms seen along the direction in which they lie flattest, coloured by a value or by element.

    :param positions: Angstrom, shape (n_atoms, 3).
    :param values: one per atom; None colours by element.
    :param quantity: what the values are, with their unit.
    """
    from ase.data import covalent_radii
    from ase.symbols import symbols2numbers

    places = np.asarray(positions, dtype=np.float64)
    thinnest = int(np.argmin(np.ptp(places, axis=0)))
    right, up = [axis for axis in range(3) if axis != thinnest]
    order = np.argsort(places[:, thinnest], kind="stable")
    radii = covalent_radii[symbols2numbers(list(symbols))]
    size = np.clip(18.0 * radii * min(1.0, 12.0 / len(places) ** 0.5), 3.0, 24.0)
    groups: list[tuple[str, NDArray[np.int64]]] = [("atoms", order)]
    if values is None:
        groups = [(s, order[[symbols[n] == s for n in order]]) for s in sorted(set(symbols))]
    shades = None if values is None else np.asarray(values, dtype=np.float64)
    traces: list[dict[str, Any]] = []
    for n, (name, chosen) in enumerate(groups):
        marker: dict[str, Any] = {"size": numbers(size[chosen]), "line": {"width": 0.5, "color": "@ink"}}
        marker["color"] = PARTS[n % len(PARTS)] if shades is None else numbers(shades[chosen])
        if shades is not None:
            bar = {"title": {"text": quantity, "side": "right"}}
            marker |= {"colorscale": "Viridis", "showscale": True, "colorbar": bar}
        told = [f"{symbols[a]} {a}" + ("" if shades is None else f": {shades[a]:.3g}") for a in chosen]
        traces.append(
            {
                "x": numbers(places[chosen, right]),
                "y": numbers(places[chosen, up]),
                "mode": "markers",
                "marker": marker,
                "text": told,
                "hovertemplate": "%{text}<extra></extra>",
                "name": plain(name),
            }
        )
    axes = "xyz"
    layout = {
        "xaxis": {"title": {"text": f"{axes[right]} (Å)"}, "zeroline": False},
        "yaxis": {"title": {"text": f"{axes[up]} (Å)"}, "scaleanchor": "x", "zeroline": False},
    }
    columns: dict[str, Sequence[Any]] = {"atom": list(range(len(symbols))), "element": list(symbols)}
    columns |= {f"{axes[axis]}_A": places[:, axis].tolist() for axis in range(3)}
    alt = f"{title}: {len(symbols)} atoms seen along {axes[thinnest]}"
    if shades is not None:
        columns[quantity] = shades.tolist()
        worst = int(np.argmax(shades))
        alt += f"; {quantity} is largest at {symbols[worst]} {worst}: {shades[worst]:.3g}"
    return Figure(key, title, f"Seen along {axes[thinnest]}.", alt + ".", traces, layout, table(columns), 420)
