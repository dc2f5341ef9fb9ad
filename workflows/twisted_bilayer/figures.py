"""Figures of a finished run: `verdi run figures.py PK [FOLDER]` writes bands_28.png and bands_364.png."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
from aiida import orm

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BLUE, RED = "#2d5f9a", "#c2442e"


def distances(bands: orm.BandsData) -> np.ndarray:
    """Length of the path up to each k-point, 1/Angstrom."""
    steps = np.linalg.norm(np.diff(bands.get_kpoints(cartesian=True), axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def axes_of(bands: orm.BandsData, axes: plt.Axes) -> np.ndarray:
    """Name the special points on the axis and return the places of all points."""
    x = distances(bands)
    names = {index: name.replace("G", "\N{GREEK CAPITAL LETTER GAMMA}") for index, name in bands.labels}
    for index, point in enumerate(bands.get_kpoints()):
        # In a cell of 60 degrees (1/3, 1/3) lies between Gamma and M, whatever a file calls it.
        if index in names and np.allclose(point, [1 / 3, 1 / 3, 0], atol=1e-6):
            names[index] = "(1/3, 1/3)"
    axes.set_xticks([x[index] for index in names], list(names.values()))
    for index in names:
        axes.axvline(x[index], color="0.85", linewidth=0.8, zorder=0)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylabel("energy (eV)")
    return x


def validated(process: orm.WorkChainNode, path: Path) -> None:
    """DFT and predicted bands of the 28-atom cell, on DFT's Fermi level."""
    reference, predicted = process.outputs.dft_bands.twisted_28, process.outputs.bands.twisted_28
    compared = process.outputs.comparison.twisted_28.get_dict()
    dft, ours = (np.atleast_3d(b.get_bands()).reshape(-1, b.get_bands().shape[-1]) for b in (reference, predicted))
    zero = reference.base.attributes.get("fermi_energy", float(dft[:, compared["n_occupied"][0] - 1].max()))
    figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.6), constrained_layout=True)
    for axes, (low, high) in zip(panels, ((-21.0, 8.0), (-2.5, 2.5)), strict=True):
        x = axes_of(reference, axes)
        lines = axes.plot(x, dft - zero, color=BLUE, linewidth=1.0)
        dots = axes.plot(x, ours + compared["shift"] - zero, "o", color=RED, markersize=2.2, markeredgewidth=0)
        axes.set_ylim(low, high)
    panels[1].legend([lines[0], dots[0]], ["OpenMX", "predicted"], loc="upper right", fontsize=8)
    figure.suptitle("21.8 degrees, 28 atoms", fontsize=10)
    figure.savefig(path, dpi=110)


def predicted(process: orm.WorkChainNode, path: Path) -> None:
    """Predicted bands of the 364-atom cell around its Fermi level."""
    bands = process.outputs.bands.twist_6
    energies = bands.get_bands() - bands.creator.outputs.output_parameters["fermi_level"]
    figure, axes = plt.subplots(figsize=(4.2, 3.6), constrained_layout=True)
    axes.plot(axes_of(bands, axes), energies.reshape(len(bands.get_kpoints()), -1), color=RED, linewidth=1.0)
    axes.axhline(0, color="0.6", linewidth=0.8, linestyle="--")
    axes.set_title("6.0 degrees, 364 atoms, predicted", fontsize=10)
    figure.savefig(path, dpi=110)


def main(pk: str, folder: Path) -> None:
    """Both figures."""
    process = orm.load_node(pk)
    validated(process, folder / "bands_28.png")
    predicted(process, folder / "bands_364.png")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else "."))
