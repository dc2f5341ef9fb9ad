"""A known Hamiltonian, and the files in which FHI-aims would have written it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from aiida_deeph.engine.dft.aims.code import RECORD
from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.domain.transforms import to_convention

SHELLS = {"Mo": [("atomic", 1, 0), ("ionic", 5, 1), ("hydro", 3, 2)], "S": [("atomic", 2, 1), ("hydro", 4, 3)]}


def known_hamiltonian() -> RealSpaceHamiltonian:
    """Like MoS2: an atom outside the cell and one at its border, s to f shells, pairs of H without S."""
    cell = np.array([[3.2, 0.0, 0.0], [-1.6, 2.77, 0.0], [0.3, 0.0, 9.0]])
    fractional = np.array([[0.5, -0.5, 0.1], [0.667, 0.333, 1.27], [-0.36, 0.64, 0.98]])
    structure = Structure(("Mo", "S", "S"), fractional @ cell, cell)
    basis = OrbitalBasis({symbol: tuple(l for _, _, l in shells) for symbol, shells in SHELLS.items()})
    sizes = basis.orbitals_per_atom(structure.symbols)
    pairs = pairs_within(structure, 4.5)
    random = np.random.default_rng(3)
    # Overlaps that fade, as the reader looks at them where an atom is at the border of the cell.
    fading = np.exp(-np.linalg.norm(structure.pair_vectors(pairs), axis=1))

    def symmetric(spread: np.ndarray) -> BlockSparseMatrix:
        blocks = BlockSparseMatrix.from_pairs(pairs, sizes)
        values = random.normal(size=len(blocks.entries)) * spread[blocks.pair_of_entry]
        return blocks.with_entries(values).hermitian_part()

    S = symmetric(0.01 * fading * (fading > np.exp(-4.0)))
    rows, columns = S.entry_positions()
    on_site = (pairs[:, 3] == pairs[:, 4]) & ~pairs[:, :3].any(axis=1)
    diagonal = on_site[S.pair_of_entry] & (rows == columns)
    S.entries[diagonal] = 1.0
    data = RealSpaceHamiltonian(structure, basis, hamiltonian=symmetric(fading), overlap=S)
    return data


def main_output(structure: Structure, *further: str) -> str:
    """What FHI-aims says of a converged run.

    :param further: lines before its end.
    """
    rows = ["  Invoking FHI-aims ...", "  FHI-aims version      : 240920.1", "  xc               pbe"]
    rows += ["  k_grid  5  5  1", "  Input geometry:", "  | Unit cell:"]
    rows += [f"  |{''.join(f'{x:18.8f}' for x in row)}" for row in structure.cell]
    rows += ["  | Atomic structure:", "  |       Atom                x [A]            y [A]            z [A]"]
    for n, (symbol, row) in enumerate(zip(structure.symbols, structure.positions, strict=True), start=1):
        rows.append(f"  |{n:5d}: Species {symbol:2s}{''.join(f'{x:18.8f}' for x in row)}")
    return "\n".join([*rows, *further, "  Self-consistency cycle converged.", ""])


def write_run(
    folder: Path, known: RealSpaceHamiltonian, down: BlockSparseMatrix | None = None, hdf5: bool = False
) -> Path:
    """The files of a run: the lower triangle of <i in R|M|j in 0>, atoms moved to the central cell."""
    folder.mkdir()
    structure = known.structure
    rows = [f"lattice_vector {' '.join(f'{x:.12f}' for x in row)}" for row in structure.cell]
    rows += [
        f"atom {' '.join(f'{x:.12f}' for x in position)} {symbol}  # comment"
        for symbol, position in zip(structure.symbols, structure.positions, strict=True)
    ]
    (folder / "aims.out").write_text(main_output(structure))
    (folder / "geometry.in").write_text("# a crystal\n" + "\n".join(rows) + "\n")
    lines = ["", "  fn.   type   at.   n   l   m"]
    for atom, symbol in enumerate(structure.symbols, start=1):
        for kind, n, l in SHELLS[symbol]:
            for m in range(-l, l + 1):
                lines.append(f"{len(lines) - 1:5d} {kind:8s} {atom:3d} {n:3d} {l:3d} {m:3d}")
    (folder / "basis-indices.out").write_text("\n".join(lines) + "\n")

    fractional = structure.positions @ np.linalg.inv(structure.cell)
    shift = np.rint(fractional - 1e-9).astype(int)
    raw = to_convention(known, RECORD.convention)
    matrices = {"overlap": raw.overlap, "hamiltonian": raw.hamiltonian}
    if down is not None:
        other = RealSpaceHamiltonian(known.structure, known.basis, hamiltonian=down, overlap=known.overlap)
        matrices = {"overlap": raw.overlap, "hamiltonian_up": raw.hamiltonian}
        matrices["hamiltonian_dn"] = to_convention(other, RECORD.convention).hamiltonian
    first = np.concatenate([[0], np.cumsum(known.orbitals_per_atom)])
    n_basis = int(first[-1])
    dense = {name: {} for name in matrices}
    for name, matrix in matrices.items():
        for *R, i, j in matrix.atom_pairs.tolist():
            # From atoms as they are given to those in the central cell; there R stands at the row.
            cell = tuple((-(np.array(R) - shift[i] + shift[j])).tolist())
            table = dense[name].setdefault(cell, np.zeros((n_basis, n_basis)))
            table[first[i] : first[i + 1], first[j] : first[j + 1]] = matrix.block(R, i, j)
    cells = sorted({cell for tables in dense.values() for cell in tables}, key=lambda cell: (cell != (0, 0, 0), cell))
    starts, ends, columns = [], [], []
    values = {name: [] for name in matrices}
    for cell in cells:
        tables = {name: dense[name].get(cell, np.zeros((n_basis, n_basis))) for name in matrices}
        starts.append([])
        ends.append([])
        for row in range(n_basis):
            kept = [c for c in range(row + 1) if any(table[row, c] for table in tables.values())]
            starts[-1].append(len(columns) + 1 if kept else 0)
            ends[-1].append(len(columns) + len(kept) if kept else -1)
            columns += [c + 1 for c in kept]
            for name, table in tables.items():
                values[name] += [table[row, c] for c in kept]
    text = [
        f"n_hamiltonian_matrix_size: {len(columns) + 1}",
        f"n_cells_in_hamiltonian: {len(cells) + 1}",
        f"n_basis: {n_basis}",
        "cell_index",
        *(" ".join(map(str, cell)) for cell in [*cells, (999999999,) * 3]),
        "index_hamiltonian(1,:,:)",
        *(" ".join(map(str, row)) for row in [*starts, [0] * n_basis]),
        "index_hamiltonian(2,:,:)",
        *(" ".join(map(str, row)) for row in [*ends, [-1] * n_basis]),
        "column_index_hamiltonian",
        *(str(column) for column in [*columns, 0]),
    ]
    (folder / "rs_indices.out").write_text("\n".join(text) + "\n")
    for name, numbers in values.items():
        scaled = np.array([*numbers, 0.0]) / (1.0 if name == "overlap" else RECORD.releases[0].hartree)
        if hdf5:
            with h5py.File(folder / f"rs_{name}.h5", "w") as file:
                file["sparse_matrix"] = scaled
        else:
            (folder / f"rs_{name}.out").write_text("".join(f"{x:25.16E}\n" for x in scaled))
    return folder
