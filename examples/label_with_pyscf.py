"""One label: a PySCF run of a hydrogen chain, read as H(R) and S(R), checked against PySCF's own bands, kept as a
DeepH folder.

On a cluster the same is done by `deeph-engine pyscf config.json` and `deeph-engine convert --code pyscf`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import scipy.linalg

from aiida_deeph import PyscfConfig, Structure, get_reader, read_deeph, run_pyscf, write_deeph, write_structure


def main() -> None:
    """Run, read, compare, write."""
    structure = Structure(
        ("H", "H"), np.array([[0.0, 3.0, 3.0], [0.8, 3.0, 3.0]]), np.diag([2.0, 6.0, 6.0]), (True, False, False)
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_structure(folder / "structure.xyz", structure)
        between = (0.13, 0.0, 0.0)  # not on the k-mesh
        config = PyscfConfig(kmesh=(11, 1, 1), ke_cutoff=40.0, bands=(between,))
        run_pyscf(config, folder, report=lambda line: None)
        label = get_reader("pyscf").read(folder)
        ours = scipy.linalg.eigh(
            label.hamiltonian_at(between).toarray(), label.overlap_at(between).toarray(), eigvals_only=True
        )
        theirs = json.loads((folder / "results.json").read_text())["bands"]["energies"][0]
        print(f"{len(label.hamiltonian)} atom pairs; bands from H(R): {ours}, from PySCF: {np.array(theirs)} eV")
        assert np.abs(ours - np.array(theirs)).max() < 1e-4
        write_deeph(folder / "deeph", label)
        assert np.array_equal(read_deeph(folder / "deeph").overlap.entries, label.overlap.entries)
        print("DeepH folder:", ", ".join(sorted(path.name for path in (folder / "deeph").iterdir())))


if __name__ == "__main__":
    main()
