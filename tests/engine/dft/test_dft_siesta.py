"""SIESTA: H(R) and S(R) of real runs against SIESTA's own eigenvalues, and orders and signs by a rotated dimer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from click.testing import CliRunner

from aiida_deeph.engine.cli.convert import command
from aiida_deeph.engine.dft.base import get_reader
from aiida_deeph.engine.dft.siesta.code import SIESTA_4
from aiida_deeph.engine.dft.siesta.energy_files import parse_bands
from aiida_deeph.engine.dft.siesta.hsx import read_hsx
from aiida_deeph.engine.dft.siesta.reader import SiestaReader
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.checks import run_gates
from aiida_deeph.engine.domain.gate import failures
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.io.deeph import read_deeph
from tests.engine.dft.printed_energies import eig, kp
from tests.engine.dft.spins import spin_rows

Unpack = Callable[..., Path]
# Run and layouts -> largest error of all eigenvalues on SIESTA's k-mesh, eV. Single precision costs that much where S
# is nearly singular (graphene: smallest eigenvalue 2e-4).
RUNS = {
    ("graphene", "v0.HSX"): 0.2,
    ("graphene", "v2.HSX"): 5e-4,
    ("si", "v0.HSX"): 5e-3,
    ("si", "v1.HSX"): 5e-3,
    ("si", "v2.HSX"): 5e-5,
    ("fe", "v0.HSX"): 5e-3,
    ("fe", "v2.HSX"): 1e-5,
    ("fenc", "v0.HSX"): 5e-4,
    ("fenc", "v1.HSX"): 5e-4,
    ("fenc", "v2.HSX"): 1e-6,
    ("fenc", "TSHS"): 1e-6,
    ("fenc", "v0.HSX", "TSHS"): 1e-6,
}
EXPECTED = {
    "graphene": (SpinMode.NONE, {"C": (0, 0, 1, 1, 2)}),
    "si": (SpinMode.NONE, {"Si": (0, 0, 1, 1, 2)}),
    "fe": (SpinMode.COLLINEAR, {"Fe": (0, 0, 2, 2, 1)}),  # the polarisation shell comes last
    "fenc": (SpinMode.NONCOLLINEAR, {"Fe": (0, 2, 1)}),
}
# Fractional coordinates off the mesh of the points in the .fdf of the iron runs.
OFF_MESH = np.array([[0, 0, 0], [0.123, 0.234, 0.345], [0.5, -0.5, 0.5], [0.071, -0.210, 0.440]])


def errors(data: RealSpaceHamiltonian, kpoints: np.ndarray, energies: np.ndarray, window: float) -> float:
    """Largest difference from eigenvalues of SIESTA up to `window` above the Fermi level, eV."""
    found = []
    for n, k in enumerate(kpoints):
        H, S = data.hamiltonian_at(k).toarray(), data.overlap_at(k).toarray()
        parts = [(H, S)]
        if data.spin is SpinMode.COLLINEAR:
            parts = [(H[np.ix_(rows, rows)], S[np.ix_(rows, rows)]) for rows in spin_rows(data)]
        for (h, s), expected in zip(parts, energies[:, n], strict=True):
            found.append(np.abs(scipy.linalg.eigvalsh(h, s) - expected)[expected < data.fermi_energy + window].max())
    return max(found)


def on_mesh(folder: Path, data: RealSpaceHamiltonian, window: float) -> float:
    """The same for the k-points of the SCF, whose energies have nine digits."""
    label = data.metadata["settings"]["label"]
    _, energies = eig((folder / f"{label}.EIG").read_text())
    kpoints = kp((folder / f"{label}.KP").read_text())
    # The file has six digits; all the meshes are fractions of 72.
    fractional = np.rint(kpoints @ (data.structure.cell / SIESTA_4.bohr).T / (2 * np.pi) * 72) / 72
    return errors(data, fractional[::2], energies[:, ::2], window)


@pytest.mark.parametrize("run", RUNS)
def test_eigenvalues(siesta_run: Unpack, run: tuple[str, ...]) -> None:
    folder = siesta_run(*run)
    data = get_reader("siesta").read(folder)
    assert on_mesh(folder, data, 5.0) < 1e-6
    assert on_mesh(folder, data, np.inf) < RUNS[run]
    assert not failures(run_gates(data))
    assert (data.spin, data.basis.shells) == EXPECTED[run[0]] and data.n_electrons == 8
    assert data.fermi_energy == pytest.approx(parse_bands((folder / f"{run[0]}.bands").read_text()).fermi_energy)
    assert data.metadata["version"] == "master-post-4.1-268" and data.metadata["settings"]["scf_cycles"] > 5
    assert data.metadata["settings"]["single_precision"] == (run[-1] in ("v0.HSX", "v1.HSX"))


@pytest.mark.parametrize("name", ["graphene", "si", "fe", "fenc"])
def test_bands_off_the_mesh(siesta_run: Unpack, name: str) -> None:
    """To the last digit of `.bands`, which has four."""
    folder = siesta_run(name, "v2.HSX")
    data = SiestaReader().read(folder)
    bands = parse_bands((folder / f"{name}.bands").read_text())
    kpoints = OFF_MESH
    if name == "graphene":
        corners = np.array([[0, 0, 0], [0.5, 0, 0], [1 / 3, 1 / 3, 0], [0, 0, 0]])
        kpoints = line(corners, (17, 11, 19))
    if name == "si":
        corners = np.array([[1, 1, 1], [0, 0, 0], [2, 0, 0], [2, 0.5, 0.5]]) * np.pi / 5.43
        kpoints = line(corners @ data.structure.cell.T / (2 * np.pi), (10, 12, 5))
    assert bands.energies.shape == (2 if name == "fe" else 1, len(kpoints), data.rows_per_atom.sum() // bands_per(name))
    assert errors(data, kpoints, bands.energies, 5.0) < 5.1e-5


def bands_per(name: str) -> int:
    return 2 if name == "fe" else 1


def line(corners: np.ndarray, counts: tuple[int, ...]) -> np.ndarray:
    parts = [corners[:1]]
    for a, b, n in zip(corners[:-1], corners[1:], counts, strict=True):
        parts.append(a + (b - a) * np.arange(1, n + 1)[:, None] / n)
    return np.concatenate(parts)


def test_layouts_agree(siesta_run: Unpack) -> None:
    """Every layout has the same pairs and entries: to the last digit in double, to seven digits in single precision."""
    reference = SiestaReader().read(siesta_run("fenc", "v2.HSX"))
    for variant, limit in (("TSHS", 0.0), ("v1.HSX", 1e-5), ("v0.HSX", 1e-5)):
        data = SiestaReader().read(siesta_run("fenc", variant))
        assert np.array_equal(data.hamiltonian.atom_pairs, reference.hamiltonian.atom_pairs)
        assert np.abs(data.hamiltonian.entries - reference.hamiltonian.entries).max() <= limit
        assert np.abs(data.overlap.entries - reference.overlap.entries).max() <= limit / 10


def test_structure_and_moment(siesta_run: Unpack) -> None:
    data = SiestaReader().read(siesta_run("fenc", "v2.HSX"))
    a = 2.87 / 2
    assert data.structure.symbols == ("Fe",) and data.structure.pbc == (True, True, True)
    assert data.structure.cell == pytest.approx(np.array([[a, a, -a], [-a, a, a], [a, -a, a]]), abs=1e-6)
    # The exchange field on the d shell points against the moment of the output, (theta, phi) = (50, 35) degrees.
    block = data.hamiltonian.block((0, 0, 0), 0, 0)
    up, down = np.arange(1, 6), np.arange(10, 15)
    field = np.array(
        [
            2 * block[up, down].real.mean(),
            -2 * block[up, down].imag.mean(),
            (block[up, up] - block[down, down]).real.mean(),
        ]
    )
    moment = np.array([1.34431, 0.94130, 1.37705])
    assert field @ moment / np.linalg.norm(field) / np.linalg.norm(moment) == pytest.approx(-1, abs=1e-5)


def test_signs_of_a_rotated_dimer(siesta_run: Unpack) -> None:
    """S of the rotated dimer is that of the other one turned round, s to f: orders and signs of the orbitals."""
    one, other = (SiestaReader().read(siesta_run(f"ptsi_dimer{n}", "v2.HSX")) for n in (1, 2))
    rotation = np.loadtxt(siesta_run("ptsi_dimer2") / "rotation.txt")
    assert one.basis.shells == {"Pt": (0, 2, 1, 3), "Si": (0, 1, 3, 2)}
    turn = {
        symbol: scipy.linalg.block_diag(*(rotated(l, rotation) for l in ls)) for symbol, ls in one.basis.shells.items()
    }
    centre = one.structure.positions.mean(axis=0)
    assert (one.structure.positions - centre) @ rotation.T + centre == pytest.approx(
        other.structure.positions, abs=1e-5
    )
    for i, a in enumerate(one.structure.symbols):
        for j, b in enumerate(one.structure.symbols):
            S, turned = one.overlap.block((0, 0, 0), i, j), other.overlap.block((0, 0, 0), i, j)
            assert np.abs(turn[a] @ S @ turn[b].T - turned).max() < 1e-6
    assert np.abs(one.overlap.block((0, 0, 0), 0, 1)[:, 4:]).max() > 0.1


def rotated(l: int, rotation: np.ndarray) -> np.ndarray:
    """Y_l(R r) = D(R) Y_l(r), from values at random points: independent of any table of signs."""
    from aiida_deeph.engine.orbitals.harmonics import solid_harmonics

    points = np.random.default_rng(l).standard_normal((50, 3))
    Y, turned = (solid_harmonics(p, l)[l * l :] for p in (points, points @ rotation.T))
    return np.linalg.lstsq(Y.T, turned.T, rcond=None)[0].T


def test_direction_of_cells(siesta_run: Unpack) -> None:
    """<s in cell 0 | p at vector> has the sign of the direction to the neighbour: R is not -R."""
    data = SiestaReader().read(siesta_run("graphene", "v0.HSX"))
    pairs = data.overlap.atom_pairs
    vectors = data.structure.pair_vectors(pairs)
    near = np.flatnonzero(np.abs(np.linalg.norm(vectors, axis=1) - 1.4203) < 0.01)
    assert len(near) == 6
    for row in near:
        block = data.overlap.block(pairs[row, :3], *pairs[row, 3:])
        direction = vectors[row, [1, 2, 0]] / np.linalg.norm(vectors[row])
        assert block[0, 2:5] @ direction < -0.1
        assert block[0, 2:5] == pytest.approx((block[0, 2:5] @ direction) * direction, abs=1e-5)


def test_spin_orbit_components(siesta_run: Unpack) -> None:
    """A file with eight components: the four of the noncollinear run, and imaginary diagonal and other ud besides."""
    folder = siesta_run("fenc", "v2.HSX")
    raw = read_hsx(folder / "fenc.HSX")
    H = np.random.default_rng(0).standard_normal((8, raw.hamiltonian.shape[1]))
    H[:4] = raw.hamiltonian
    rewrite(folder / "fenc.HSX", H)
    data, reference = SiestaReader().read(folder), SiestaReader().read(siesta_run("fenc", "TSHS"))
    assert data.spin is SpinMode.NONCOLLINEAR and data.metadata["settings"]["spin"] == "spin-orbit"
    for row in range(len(data.hamiltonian)):
        pair = data.hamiltonian.atom_pairs[row]
        block, old = (d.hamiltonian.block(pair[:3], 0, 0) for d in (data, reference))
        assert block[:9, :9].real == pytest.approx(old[:9, :9].real) and block[:9, :9].imag.any()
        assert block[9:, :9] == pytest.approx(old[9:, :9])  # du = H3 + i H4 in both


def test_convert(siesta_run: Unpack, tmp_path: Path) -> None:
    folder = siesta_run("fe", "v2.HSX")
    arguments = ["--code", "siesta", str(folder), str(tmp_path / "deeph")]
    assert CliRunner().invoke(command, arguments, catch_exceptions=False).exit_code == 0
    data = read_deeph(tmp_path / "deeph")
    bands = parse_bands((folder / "fe.bands").read_text())
    assert errors(data, OFF_MESH, bands.energies, 5.0) < 5.1e-5
    assert data.metadata["settings"]["spin"] == "polarized"


def rewrite(path: Path, H: np.ndarray) -> None:
    """The same HSX 2 with other spin components."""
    content = path.read_bytes()
    records, place = [], 0
    while place < len(content):
        length = int.from_bytes(content[place : place + 4], "little")
        records.append(content[place + 4 : place + 4 + length])
        place += 8 + length
    header = np.frombuffer(records[2], "<i4").copy()
    n_orbitals, n_old = int(header[1]), int(header[2])
    header[2] = len(H)
    records[2] = header.tobytes()
    first = len(records) - n_orbitals * (n_old + 1)
    counts = np.cumsum(np.frombuffer(records[8], "<i4"))[:-1]
    new = [part.astype("<f8").tobytes() for component in H for part in np.split(component, counts)]
    records[first : first + n_orbitals * n_old] = new
    marks = [len(record).to_bytes(4, "little") for record in records]
    path.write_bytes(b"".join(mark + record + mark for mark, record in zip(marks, records, strict=True)))
