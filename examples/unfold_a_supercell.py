"""Bands of a rattled graphene supercell with a vacancy, unfolded onto the primitive cell.

H comes from a distance-dependent rule, so that the perturbed cell needs no DFT run; a predicted H is used alike.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from ase.build import graphene

from aiida_deeph import (
    Bands,
    BandsConfig,
    BlockSparseMatrix,
    OrbitalBasis,
    RealSpaceHamiltonian,
    Structure,
    draw_bands,
    from_ase,
    new_figure,
    pairs_within,
    write_deeph,
    write_structure,
)

SIZE, BOND = 5, 1.42


def pz_model(structure: Structure) -> RealSpaceHamiltonian:
    """One orbital per atom; hopping -2.7 eV and overlap 0.1 at the bond length, both falling off with distance."""
    pairs = pairs_within(structure, 1.3 * BOND)
    distance = np.linalg.norm(structure.pair_vectors(pairs), axis=1)
    decay = np.exp(-2.5 * (distance - BOND))
    on_site = distance < 1e-6
    counts = np.ones(len(structure), dtype=np.int64)
    h = BlockSparseMatrix.from_pairs(pairs, counts, np.where(on_site, 0.0, -2.7 * decay))
    s = BlockSparseMatrix.from_pairs(pairs, counts, np.where(on_site, 1.0, 0.1 * decay))
    basis = OrbitalBasis({"C": (0,)})
    return RealSpaceHamiltonian(structure, basis, hamiltonian=h, overlap=s, n_electrons=len(structure))


def main() -> None:
    """Write unfolded.png into the current folder."""
    primitive = graphene(vacuum=8.0)
    primitive.pbc = (True, True, False)
    supercell = primitive.repeat((SIZE, SIZE, 1))
    supercell.positions += np.random.default_rng(0).normal(0.0, 0.03, supercell.positions.shape)
    del supercell[SIZE]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_deeph(folder / "supercell", pz_model(from_ase(supercell)))
        write_deeph(folder / "primitive", pz_model(from_ase(primitive)))
        write_structure(folder / "primitive.xyz", from_ase(primitive))
        common = {"kpath": "G-K-M-G", "points_per_segment": 15}
        unfold = {"unfold": str(folder / "primitive.xyz"), "output": str(folder / "unfolded.json")}
        found = Bands.run(BandsConfig(folder=str(folder / "supercell"), **common, **unfold))
        pristine = Bands.run(BandsConfig(folder=str(folder / "primitive"), **common, output=str(folder / "p.json")))
        found, pristine = (json.loads(path.read_text()) for path in (found, pristine))
    energies, weights = (np.array(found[name][0]) for name in ("energies", "spectral_weights"))
    exact = np.array(pristine["energies"][0])
    # Share of the spectral weight that lies near the pristine bands.
    near = (np.abs(energies[:, :, None] - exact[:, None, :]) < 0.5).any(axis=2)
    share = (weights * near).sum() / weights.sum()
    print(f"{len(supercell)} atoms, largest displacement {found['unfolding']['largest_displacement']:.2f} Angstrom")
    print(f"{100 * share:.0f} % of the spectral weight lies within 0.5 eV of the pristine bands")
    figure = new_figure(4.5, 4.5)
    axes = figure.add_subplot()
    axes.plot(pristine["distances"], exact, color="0.7", linewidth=1.0, zorder=0)
    draw_bands(axes, found["distances"], found["energies"], labels=found["labels"], weights=found["spectral_weights"])
    figure.savefig("unfolded.png")
    assert share > 0.8


if __name__ == "__main__":
    main()
