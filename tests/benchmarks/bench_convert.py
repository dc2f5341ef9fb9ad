"""Atom pairs per second that the readers of SIESTA and ABACUS convert, against the size.

python tests/benchmarks/bench_convert.py [--repeats 10 20 ..]

Graphene of 2 n^2 atoms for each of the repeats: the files of the fixtures' runs, repeated n times along both lattice
vectors and written as SIESTA (HSX 2) and ABACUS (CSR) would. CPU seconds of reading, up to H(R) and S(R) in memory, and
of what ABACUS's text costs of it; what a pair is in bytes of the files. Prints rows of a table in Markdown.
"""

from __future__ import annotations

import argparse
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np

from aiida_deeph.engine.dft.abacus.csr import read_csr
from aiida_deeph.engine.dft.abacus.reader import AbacusReader
from aiida_deeph.engine.dft.siesta.hsx import read_hsx
from aiida_deeph.engine.dft.siesta.reader import SiestaReader

FIXTURES = Path(__file__).parents[1] / "fixtures"


def repeated(rows: np.ndarray, columns: np.ndarray, cells: np.ndarray, n_orbitals: int, n: int) -> tuple:
    """Elements of the n x n supercell: rows, columns, R of the supercell, and the element that each is a copy of."""
    copies = np.stack(np.meshgrid(np.arange(n), np.arange(n), [0], indexing="ij"), axis=-1).reshape(-1, 3)
    size = np.array([n, n, 1])
    target = copies[:, None] + cells[None]
    R = target // size
    inside = target - R * size
    place = inside[..., 0] * n + inside[..., 1]
    new_rows = np.arange(len(copies))[:, None] * n_orbitals + rows
    source = np.broadcast_to(np.arange(len(rows)), new_rows.shape)
    return new_rows.ravel(), (place * n_orbitals + columns).ravel(), R.reshape(-1, 3), source.ravel()


def records(*arrays: np.ndarray | bytes) -> bytes:
    parts = [a if isinstance(a, bytes) else a.tobytes() for a in arrays]
    return b"".join(len(p).to_bytes(4, "little") + p + len(p).to_bytes(4, "little") for p in parts)


def write_siesta(source: Path, folder: Path, n: int) -> None:
    raw = read_hsx(source / "variants" / "v2.HSX")
    n_orbitals = len(raw.counts)
    rows, columns, R, element = repeated(
        raw.rows, raw.columns % n_orbitals, raw.images[raw.columns // n_orbitals], n_orbitals, n
    )
    order = np.lexsort((columns, rows))
    images, image = np.unique(R, axis=0, return_inverse=True)
    order = np.lexsort((columns, image.reshape(-1), rows))
    rows, columns, image, element = rows[order], columns[order], image.reshape(-1)[order], element[order]
    total = n_orbitals * n * n
    splits = np.cumsum(np.bincount(rows, minlength=total))[:-1]
    copies = np.stack(np.meshgrid(np.arange(n), np.arange(n), [0], indexing="ij"), axis=-1).reshape(-1, 1, 3)
    positions = (raw.positions + copies @ raw.cell).reshape(-1, 3)
    cell = raw.cell * np.array([[n], [n], [1]])
    i4 = lambda *x: np.array(x, "<i4")  # noqa: E731
    n_atoms = len(positions)
    header = records(
        i4(2),
        i4(1),
        i4(n_atoms, total, 1, 1, len(images), 1, 1),
        np.array([*cell.ravel(), raw.fermi_energy, raw.n_electrons * n * n, 0.0]),
        images.astype("<i4").tobytes()
        + positions.astype("<f8").tobytes()
        + np.ones(n_atoms, "<i4").tobytes()
        + (np.arange(1, n_atoms + 1, dtype="<i4") * (total // n_atoms)).tobytes(),
        b"C".ljust(20) + np.array([4.0]).tobytes() + i4(len(raw.orbitals[0])).tobytes(),
        np.array(raw.orbitals[0], "<i4"),
        bytes(60),
        np.bincount(rows, minlength=total).astype("<i4"),
    )
    body = [np.split((image * total + columns + 1).astype("<i4"), splits)]
    body += [np.split(values[element].astype("<f8"), splits) for values in (raw.hamiltonian[0], raw.overlap)]
    with (folder / "graphene.HSX").open("wb") as stream:
        stream.write(header)
        for part in body:
            stream.write(records(*part))
    (folder / "graphene.out").write_bytes((source / "graphene.out").read_bytes())


def write_abacus(source: Path, folder: Path, n: int) -> None:
    for name, letter in (("data-HR-sparse_SPIN0.csr", "H"), ("data-SR-sparse_SPIN0.csr", "S")):
        matrix = read_csr(source / "scf" / name)
        total = matrix.n_rows * n * n
        rows, columns, R, element = repeated(matrix.rows, matrix.columns, matrix.cells[matrix.cell], matrix.n_rows, n)
        images, image = np.unique(R, axis=0, return_inverse=True)
        with (folder / name).open("w") as stream:
            stream.write(f"STEP: 0\nMatrix Dimension of {letter}(R): {total}\n")
            stream.write(f"Matrix number of {letter}(R): {len(images)}\n")
            for index, vector in enumerate(images):
                mine = np.flatnonzero(image.reshape(-1) == index)
                mine = mine[np.lexsort((columns[mine], rows[mine]))]
                pointers = np.concatenate([[0], np.cumsum(np.bincount(rows[mine], minlength=total))])
                values = matrix.values[element[mine]]
                stream.write(" ".join(map(str, vector)) + f" {len(mine)}\n ")
                stream.write(" ".join(f"{value:.8e}" for value in values) + "\n ")
                stream.write(" ".join(map(str, columns[mine])) + "\n " + " ".join(map(str, pointers)) + "\n")
    (folder / "INPUT").write_bytes((source / "scf" / "INPUT").read_bytes())
    log = (source / "scf" / "running_scf.log").read_text()
    (folder / "running_scf.log").write_text(log.replace("taud_", "was_"))
    head, tail = (source / "STRU").read_text().split("LATTICE_VECTORS")
    cell = np.array([line.split() for line in tail.strip().splitlines()[:3]], dtype=float) * [[n], [n], [1]]
    copies = np.stack(np.meshgrid(np.arange(n), np.arange(n), [0], indexing="ij"), axis=-1).reshape(-1, 1, 3)
    motif = np.array([[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5]])
    positions = ((motif + copies) / [n, n, 1]).reshape(-1, 3)
    lines = [" ".join(map(str, row)) for row in cell]
    atoms = [" ".join(map(str, row)) for row in positions]
    text = ["LATTICE_VECTORS", *lines, "ATOMIC_POSITIONS", "Direct", "C", "0.0", str(len(atoms)), *atoms]
    (folder / "STRU").write_text(head + "\n".join(text) + "\n")


def cpu_seconds(function: object, *arguments: object) -> tuple[float, object]:
    start = time.process_time()
    result = function(*arguments)  # type: ignore[operator]
    return time.process_time() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, nargs="*", default=[5, 15, 30])
    arguments = parser.parse_args()
    print(
        "| code | atoms | pairs | MB | kB per pair | CPU s | pairs per s | MB per s | of it text, CPU s |", flush=True
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for name in ("siesta", "abacus"):
            with tarfile.open(FIXTURES / name / "graphene.tar.xz") as archive:
                archive.extractall(root / name, filter="data")
        for n in arguments.repeats:
            for name, write, reader in (
                ("siesta", write_siesta, SiestaReader()),
                ("abacus", write_abacus, AbacusReader()),
            ):
                folder = root / f"{name}{n}"
                folder.mkdir()
                write(root / name / "graphene", folder, n)
                size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
                text = 0.0
                if name == "abacus":
                    text = sum(cpu_seconds(read_csr, path)[0] for path in folder.glob("*.csr"))
                # The better of two: the first one also fills the memory.
                seconds, data = min((cpu_seconds(reader.read, folder) for _ in range(2)), key=lambda pair: pair[0])
                n_pairs = len(data.hamiltonian)  # type: ignore[attr-defined]
                print(
                    f"| {name} | {2 * n * n} | {n_pairs} | {size:.0f} | {1000 * size / n_pairs:.1f} | {seconds:.2f} "
                    f"| {n_pairs / seconds:.0f} | {size / seconds:.0f} | {text:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
