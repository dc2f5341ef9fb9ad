"""S(R) of a large structure from the Gaussians alone: what a prediction needs beside the model."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from ase.build import graphene

from aiida_deeph import OverlapConfig, from_ase, read_deeph, run_overlap, write_structure


def main() -> None:
    """Overlap of a graphene cell with 200 atoms."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        atoms = graphene(size=(10, 10, 1), vacuum=8.0)
        atoms.pbc = (True, True, False)
        write_structure(folder / "graphene.xyz", from_ase(atoms))
        run_overlap(OverlapConfig(structure="graphene.xyz", basis="pyscf:gth-szv", threshold=1e-4), folder)
        data = read_deeph(folder / "overlap")
        smallest = np.linalg.eigvalsh(data.overlap_at([0.0, 0.0, 0.0]).toarray()).min()
        print(f"{len(data.structure)} atoms, {len(data.overlap)} pairs, smallest eigenvalue of S: {smallest:.3f}")
        assert smallest > 0 and data.overlap.hermiticity_error() < 1e-10


if __name__ == "__main__":
    main()
