"""Density of states of a chain of 2,001 atoms by the kernel polynomial method, and what a domain wall adds to it.

Random vectors give the whole spectrum at the cost of matrix-vector products; the local density of chosen atoms
needs none. The mid-gap state of the wall (Su, Schrieffer, Heeger 1979) is invisible in the total and plain at the wall.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from ssh_soliton import ssh_chain

from aiida_deeph import DensityOfStates, DosConfig, draw_curve, new_figure, write_deeph

N_ATOMS = 2001
WALL, BULK = N_ATOMS // 2, N_ATOMS // 8


def main() -> None:
    """Write chain-dos.png into the current folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_deeph(folder / "chain", ssh_chain(N_ATOMS))
        config = DosConfig(
            folder=str(folder / "chain"),
            mesh=(1, 1, 1),
            method="kpm",
            broadening=0.05,
            atoms=(WALL, BULK),
            n_vectors=8,
            output=str(folder / "dos.json"),
        )
        dos = json.loads(DensityOfStates.run(config).read_text())
    energies, total = np.array(dos["energies"]), np.array(dos["dos"])
    print(f"{dos['n_moments']} moments of {dos['n_vectors']} random vectors, {dos['seconds']:.1f} s")
    print(f"states: {np.trapz(total, energies):.1f}, Fermi level {dos['fermi_level']:.3f} eV")
    middle = {atom: float(np.interp(0.0, energies, curve)) for atom, curve in dos["dos_by_atom"].items()}
    print(f"states/eV at mid-gap on the atom at the wall {middle[str(WALL)]:.3f}, in the bulk {middle[str(BULK)]:.4f}")
    figure = new_figure(6.0, 3.5)
    parts = {"wall": dos["dos_by_atom"][str(WALL)], "bulk": dos["dos_by_atom"][str(BULK)]}
    draw_curve(figure.add_subplot(), energies, np.array(parts["bulk"]), parts=parts, window=(-3, 3))
    figure.savefig("chain-dos.png")
    assert abs(np.trapz(total, energies) / (2 * N_ATOMS) - 1) < 1e-3
    assert middle[str(WALL)] > 20 * middle[str(BULK)]


if __name__ == "__main__":
    main()
