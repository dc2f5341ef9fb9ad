"""ABACUS: H(R) and S(R) of real runs against ABACUS's own eigenvalues, and files that must not be misread."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from click.testing import CliRunner

from aiida_deeph.engine.cli.convert import command
from aiida_deeph.engine.dft.abacus.csr import read_csr
from aiida_deeph.engine.dft.abacus.eigenvalues import parse_bands
from aiida_deeph.engine.dft.abacus.numbers import parse_integers, parse_reals
from aiida_deeph.engine.dft.abacus.output import read_output
from aiida_deeph.engine.dft.abacus.reader import AbacusReader
from aiida_deeph.engine.dft.abacus.stru import read_stru
from aiida_deeph.engine.dft.base import get_reader
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.checks import run_gates
from aiida_deeph.engine.domain.gate import failures
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError, DeepHError, InputError
from aiida_deeph.engine.io.deeph import read_deeph
from aiida_deeph.engine.orbitals.harmonics import solid_harmonics
from tests.engine.dft.printed_energies import istate_info, kpt_list
from tests.engine.dft.spins import spin_rows

Unpack = Callable[..., Path]
H_FILE, S_FILE = "OUT.ABACUS/data-HR-sparse_SPIN0.csr", "OUT.ABACUS/data-SR-sparse_SPIN0.csr"
# Run -> spin, shells, pairs of H, electrons, and errors in eV: at k-points of the SCF (iron's file has six digits), and
# off the mesh, where ABACUS starts from a density in a file, which costs up to 8e-5.
RUNS = {
    "graphene": (SpinMode.NONE, {"C": (0, 0, 1, 1, 2)}, 170, 8, 5e-6, 1e-5),
    "fe_nspin2": (SpinMode.COLLINEAR, {"Fe": (0, 0, 0, 0, 1, 1, 2, 2, 3)}, 149, 16, 6e-4, 3e-5),
    "gaas_soc_mag": (SpinMode.NONCOLLINEAR, {e: (0, 0, 1, 1, 2, 2) for e in ("Ga", "As")}, 58, 28, 1e-7, 8e-5),
}


def errors(data: RealSpaceHamiltonian, kpoints: np.ndarray, energies: np.ndarray) -> float:
    """Largest difference from eigenvalues of ABACUS, shape (n_spins, n_k, n_bands), eV."""
    found = []
    for n, k in enumerate(kpoints):
        H, S = data.hamiltonian_at(k).toarray(), data.overlap_at(k).toarray()
        parts = [(H, S)]
        if data.spin is SpinMode.COLLINEAR:
            parts = [(H[np.ix_(rows, rows)], S[np.ix_(rows, rows)]) for rows in spin_rows(data)]
        for (h, s), expected in zip(parts, energies[:, n], strict=True):
            found.append(np.abs(scipy.linalg.eigvalsh(h, s)[: len(expected)] - expected).max())
    return max(found)


def off_mesh(run: Path, data: RealSpaceHamiltonian) -> float:
    folder = next(run.parent.glob("*/nscf"))
    energies = np.array([parse_bands(path.read_text()) for path in sorted(folder.glob("BANDS_*.dat"))])
    return errors(data, kpt_list((folder / "KPT").read_text()), energies)


@pytest.mark.parametrize("name", RUNS)
def test_eigenvalues(abacus_run: Unpack, name: str) -> None:
    run = abacus_run(name, "scf")
    data = get_reader("abacus").read(run)
    spin, shells, n_pairs, n_electrons, on_mesh, off = RUNS[name]
    kpoints, energies = istate_info((run / "OUT.ABACUS" / "istate.info").read_text())
    assert errors(data, kpoints[::7], energies[:, ::7]) < on_mesh
    assert off_mesh(run, data) < off
    assert not failures(run_gates(data))
    assert (data.spin, data.basis.shells, data.n_electrons) == (spin, shells, n_electrons)
    assert len(data.hamiltonian) == len(data.overlap) == n_pairs
    assert data.metadata["version"] == "3.8.1" and data.metadata["settings"]["scf_cycles"] > 10
    assert ("sigma_y" in data.metadata["settings"]) == (spin is SpinMode.NONCOLLINEAR)


def test_off_mesh_with_the_hamiltonian_of_the_same_run(abacus_run: Unpack) -> None:
    """H of the very run that printed the bands."""
    run = abacus_run("gaas_soc_mag", "scf")
    next(run.parent.glob("*/nscf/data-HR*")).rename(run / H_FILE)
    assert off_mesh(run, AbacusReader().read(run)) < 1e-7


def test_pairs_without_overlap_matter(abacus_run: Unpack) -> None:
    """12 of 170 pairs of graphene have no S; without them bands are off by 27 meV."""
    run = abacus_run("graphene", "scf")
    data = AbacusReader().read(run)
    kept = data.overlap.norms() > 0
    assert (~kept).sum() == 12 and data.hamiltonian.norms()[~kept].max() > 5e-4
    dropped = RealSpaceHamiltonian(
        data.structure, data.basis, data.spin, data.hamiltonian.selected(kept), data.overlap.selected(kept)
    )
    assert off_mesh(run, dropped) > 0.02


def test_signs_of_a_rotated_dimer(abacus_run: Unpack) -> None:
    """S of the rotated dimer is that of the other one turned round, s to f: orders and signs; S alone, of `get_S`."""
    runs = [abacus_run("dimer_FeC", part) for part in "ab"]
    one, other = (AbacusReader().read(run) for run in runs)
    assert one.hamiltonian is None and "converged" not in one.metadata
    rotation = np.load(runs[0].parent / "dimer_FeC" / "rotation.npy")
    vectors = [data.structure.positions[1] - data.structure.positions[0] for data in (one, other)]
    assert rotation @ vectors[0] == pytest.approx(vectors[1], abs=1e-6)

    def turn(l: int) -> np.ndarray:
        points = np.random.default_rng(l).standard_normal((50, 3))
        Y, turned = (solid_harmonics(p, l)[l * l :] for p in (points, points @ rotation.T))
        return np.linalg.lstsq(Y.T, turned.T, rcond=None)[0].T

    D = {symbol: scipy.linalg.block_diag(*map(turn, ls)) for symbol, ls in one.basis.shells.items()}
    for i, a in enumerate(one.structure.symbols):
        for j, b in enumerate(one.structure.symbols):
            S, turned = one.overlap.block((0, 0, 0), i, j), other.overlap.block((0, 0, 0), i, j)
            assert np.abs(D[a] @ S @ D[b].T - turned).max() < 1e-8


def test_direction_and_positions_outside_the_cell(abacus_run: Unpack) -> None:
    """ABACUS wraps atoms into the cell; R of the data belong to the positions as STRU has them."""
    run = abacus_run("graphene", "scf")
    reference = AbacusReader().read(run)
    text = (run / "STRU").read_text()
    (run / "STRU").write_text(text.replace("0.6666666667 0.3333333333 0.5", "-1.3333333333 1.3333333333 0.5"))
    data = AbacusReader().read(run)
    for k in ((0.1, 0.2, 0.3), (0.0, 0.5, 0.0)):
        assert scipy.linalg.eigvalsh(
            *(m(k).toarray() for m in (data.hamiltonian_at, data.overlap_at))
        ) == pytest.approx(
            scipy.linalg.eigvalsh(*(m(k).toarray() for m in (reference.hamiltonian_at, reference.overlap_at)))
        )
    for one in (reference, data):
        pairs, vectors = one.overlap.atom_pairs, one.structure.pair_vectors(one.overlap.atom_pairs)
        near = np.flatnonzero(np.abs(np.linalg.norm(vectors, axis=1) - 1.4203) < 0.01)
        assert len(near) == 6
        for row in near:
            block = one.overlap.block(pairs[row, :3], *pairs[row, 3:])
            direction = vectors[row, [1, 2, 0]] / np.linalg.norm(vectors[row])
            assert block[0, 2:5] @ direction < -0.05
            assert block[0, 2:5] == pytest.approx((block[0, 2:5] @ direction) * direction, abs=1e-6)
    (run / "STRU").write_text(text.replace("0.6666666667 0.3333333333 0.5", "0.6766666667 0.3333333333 0.5"))
    with pytest.raises(DataError, match="structure is not that of the matrices"):
        AbacusReader().read(run)


def test_overlap_runs(abacus_run: Unpack) -> None:
    """`get_S` gives what the SCF gives; with nspin 4 it gives nothing, and its remedy, nspin 1, the same S again."""
    scf = AbacusReader().read(abacus_run("graphene", "scf"))
    S = AbacusReader().read(abacus_run("graphene", "get_S")).overlap
    assert np.array_equal(scf.overlap.aligned_to(S.atom_pairs, scf.orbitals_per_atom).entries, S.entries)
    magnetic, plain = abacus_run("gaas_soc_mag", "scf"), abacus_run("gaas_soc_mag", "get_S_nspin1")
    with_spin, without = AbacusReader().read(magnetic).overlap, AbacusReader().read(plain).overlap
    aligned = with_spin.aligned_to(without.atom_pairs, np.array([18, 18]))
    assert np.array_equal(aligned.entries, without.entries)
    empty = plain.parent / "gaas_soc_mag" / "get_S_nspin4_empty_bug" / "SR.csr"
    empty.rename(plain / "OUT.ABACUS" / "SR.csr")
    with pytest.raises(DataError, match=r"S\(R\) is empty.*nspin 1"):
        AbacusReader().read(plain)


def test_newer_layout(abacus_run: Unpack) -> None:
    """The same run as releases after 3.10 would leave it: other names, headers, wrapped lines, words of the log."""
    run = abacus_run("graphene", "scf")
    old = AbacusReader().read(run)
    names = {H_FILE: ("hrs1_nao.csr", "H"), S_FILE: ("srs1_nao.csr", "S")}
    for path, (name, letter) in names.items():
        write_new_layout(run / path, run / "OUT.ABACUS" / name, letter)
        (run / path).unlink()
    log = run / "OUT.ABACUS" / "running_scf.log"
    text = log.read_text().replace("ABACUS v3.8.1", "ABACUS v3.11.0").replace("atom label", "Atom label")
    text = text.replace("charge density convergence is achieved", "#SCF IS CONVERGED#").replace("taud_", "atom ")
    log.write_text(text.replace("AUTOSET number of electrons: ", "Autoset the number of electrons"))
    new = AbacusReader().read(run)
    assert np.array_equal(new.hamiltonian.atom_pairs, old.hamiltonian.atom_pairs)
    assert np.array_equal(new.hamiltonian.entries, old.hamiltonian.entries)
    assert np.array_equal(new.overlap.entries, old.overlap.entries)
    assert (new.n_electrons, new.fermi_energy, new.metadata["version"]) == (8, old.fermi_energy, "3.11.0")
    path = run / "OUT.ABACUS" / "srs1_nao.csr"
    text = path.read_text()
    path.write_text(text.replace("\n\n #---", "\n# representation: gamma-only folded matrix\n\n #---"))
    with pytest.raises(InputError, match=r"not one of all R.*folded.*gamma_only 0"):
        AbacusReader().read(run)
    for share in (0.01, 0.3, 0.999):
        path.write_text(text[: int(share * len(text))])
        with pytest.raises(DeepHError, match=r"truncated|damaged|not a CSR"):
            AbacusReader().read(run)


def write_new_layout(source: Path, target: Path, letter: str) -> None:
    matrix = read_csr(source)
    lines = [
        " --- Ionic Step 1 ---",
        f" # print {letter} matrix in real space {letter}(R)",
        " 1 # number of spin directions",
        " 1 # spin index",
        f" {matrix.n_rows} # number of localized basis",
        f" {len(matrix.cells)} # number of Bravais lattice vector R",
        "",
        " user_defined_lattice",
        " 1",
        *(" 2.46 0 0", " -1.23 2.13042 0", " 0 0 14", " C", " 2", " Direct"),
        *(" 0.333333333333 0.666666666667 0.5", " 0.666666666667 0.333333333333 0.5"),
        "",
        " #--------------------------------#",
        " #           CSR Format           #",
        " #--------------------------------#",
        "",
    ]
    for index, R in enumerate(matrix.cells):
        mine = np.flatnonzero(matrix.cell == index)
        if not len(mine):
            continue  # left out, as these releases may do
        pointers = np.concatenate([[0], np.cumsum(np.bincount(matrix.rows[mine], minlength=matrix.n_rows))])
        lines.append(f" {R[0]} {R[1]} {R[2]} {len(mine)}")
        for title, words, width in (
            ("values", [f"{x:.8e}" for x in matrix.values[mine]], 6),
            ("column indices", matrix.columns[mine], 16),
            ("row pointers", pointers, 16),
        ):
            lines.append(f" # CSR {title}")
            lines += [" " + " ".join(map(str, words[n : n + width])) for n in range(0, len(words), width)]
        lines.append("")
    target.write_text("\n".join(lines) + "\n")


def test_not_converged(abacus_run: Unpack) -> None:
    """A real log of a run that ended without convergence, with exit status 0."""
    with pytest.raises(DataError, match=r"did not converge.*100 steps"):
        AbacusReader().read(abacus_run("gaas_soc_trs", "scf"))


def test_versions(abacus_run: Unpack) -> None:
    path = abacus_run("graphene", "scf") / "OUT.ABACUS" / "running_scf.log"
    text = path.read_text()
    for version in ("v2.3.5", "v4.0.0"):
        path.write_text(text.replace("v3.8.1", version))
        with pytest.raises(InputError, match=f"version of ABACUS is not known.*found {version[1:]}"):
            read_output(path)
    path.write_text("something else")
    with pytest.raises(InputError, match="not a log of ABACUS"):
        read_output(path)
    path.write_text(text[: text.index("READING ATOM TYPE")])
    with pytest.raises(DataError, match="log is incomplete"):
        read_output(path)


def test_logs_of_3_0_to_3_2(abacus_run: Unpack) -> None:
    run = abacus_run("graphene", "scf")
    path = run / "OUT.ABACUS" / "running_scf.log"
    known = AbacusReader().read(run)
    text = path.read_text()
    for version in ("v3.0", "v3.1.2", "v3.2.0"):
        path.write_text(text.replace("ABACUS v3.8.1", f"WELCOME TO ABACUS {version}"))
        data = AbacusReader().read(run)
        assert data.metadata["version"] == version[1:]
        assert np.array_equal(data.hamiltonian.entries, known.hamiltonian.entries)


def test_empty_atoms_are_refused(abacus_run: Unpack) -> None:
    run = abacus_run("graphene", "scf")
    for path in (run / "STRU", run / "OUT.ABACUS" / "running_scf.log"):
        path.write_text(re.sub(r"(?m)(^|= )C(?=$| 12)", r"\1C_empty", path.read_text()))
    with pytest.raises(InputError, match=r"empty atoms are not supported.*C_empty"):
        AbacusReader().read(run)


def test_structure_edited_after_the_run_is_refused(abacus_run: Unpack) -> None:
    run = abacus_run("graphene", "scf")
    text = (run / "STRU").read_text()
    assert "2.4600000000 0.0" in text
    silicon = text.replace("\nC 12", "\nSi 28").replace("\nC\n", "\nSi\n")
    for changed in (text.replace("2.4600000000 0.0", "2.4700000000 0.0"), text.replace("\n2\n", "\n1\n"), silicon):
        (run / "STRU").write_text(changed)
        with pytest.raises(DataError, match=r"structure is not that of the run|STRU is damaged"):
            AbacusReader().read(run)


def test_lattice_by_its_name(abacus_run: Unpack) -> None:
    """With `latname` STRU has no lattice vectors: those of the log, in units of the constant in STRU."""
    run = abacus_run("graphene", "scf")
    known = AbacusReader().read(run)
    path = run / "STRU"
    text = path.read_text()
    begin, end = text.index("LATTICE_VECTORS"), text.index("ATOMIC_POSITIONS")
    path.write_text(text[:begin] + text[end:])
    data = AbacusReader().read(run)
    assert data.structure.cell == pytest.approx(known.structure.cell, abs=1e-5)
    assert np.array_equal(data.hamiltonian.atom_pairs, known.hamiltonian.atom_pairs)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (H_FILE, r"no H\(R\).*out_mat_hs2 1"),
        (S_FILE, r"no S\(R\)"),
        ("STRU", "structure is missing"),
        ("INPUT", "INPUT is missing"),
        ("OUT.ABACUS/running_scf.log", "no SCF of ABACUS here"),
    ],
)
def test_missing_files(abacus_run: Unpack, missing: str, message: str) -> None:
    run = abacus_run("graphene", "scf")
    (run / missing).unlink()
    with pytest.raises(InputError, match=message):
        AbacusReader().read(run)


def test_files_of_different_runs(abacus_run: Unpack) -> None:
    run, iron = abacus_run("graphene", "scf"), abacus_run("fe_nspin2", "scf")
    (run / S_FILE).write_bytes((iron / S_FILE).read_bytes())
    with pytest.raises(DataError, match=r"different runs.*different sizes"):
        AbacusReader().read(run)
    (run / "OUT.second").mkdir()
    (run / "OUT.second" / "running_scf.log").write_text("")
    with pytest.raises(InputError, match="several runs"):
        AbacusReader().read(run)


def test_damaged_matrices(abacus_run: Unpack) -> None:
    path = abacus_run("graphene", "scf") / S_FILE
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    filled = next(n for n, line in enumerate(lines) if n > 2 and len(line.split()) == 4 and line.split()[3] != "0")
    for wrong in (
        text[: len(text) // 2],
        "".join(lines[:-1]),
        "".join([*lines[: filled + 1], lines[filled + 1].replace("e-", "x-", 1), *lines[filled + 2 :]]),
        "".join([*lines[: filled + 2], lines[filled + 2].replace(" 14 ", " 99 ", 1), *lines[filled + 3 :]]),
        "".join([*lines[: filled + 2], *lines[filled + 3 :]]),
        text.replace("Matrix number of S(R): ", "Matrix number of S(R): 1", 1),
    ):
        path.write_text(wrong)
        with pytest.raises(DataError, match=r"damaged|truncated"):
            read_csr(path)
    path.write_text(text + text)
    with pytest.raises(InputError, match="several steps"):
        read_csr(path)
    path.write_text("something else")
    with pytest.raises(InputError, match="not a CSR file"):
        read_csr(path)


@pytest.mark.parametrize("decimals", [3, 8, 12, 16])
def test_numbers_as_they_are_printed(decimals: int) -> None:
    """Bit by bit what `float` makes of them, also beyond the powers of ten that floats can hold."""
    rng = np.random.default_rng(decimals)
    values = rng.standard_normal(5000) * 10.0 ** rng.integers(-40, 40, 5000)
    words = [f"{value:.{decimals}e}" for value in values]
    expected = np.array([float(word) for word in words])
    found = parse_reals(" ".join(words).encode())
    assert np.array_equal(found, expected)
    pairs = " ".join(f"({a},{b})" for a, b in zip(words[::2], words[1::2], strict=True))
    assert np.array_equal(parse_reals(pairs.encode()), found)
    assert parse_reals(b" 0.5 -2 1e3 nan") == pytest.approx(np.array([0.5, -2, 1000, np.nan]), nan_ok=True)
    with pytest.raises(ValueError, match="numbers"):
        parse_reals(b" 1.00e+00 x.00e+00")
    assert parse_integers(b" 0 12\n345678 9 ").tolist() == [0, 12, 345678, 9] and not len(parse_integers(b" \n"))
    for wrong in (b"1 -2", b"1.5", b"1" * 13):
        with pytest.raises(ValueError, match="integer"):
            parse_integers(wrong)


def test_stru(tmp_path: Path) -> None:
    path = tmp_path / "STRU"
    text = (
        "ATOMIC_SPECIES\nFe1 1 a.upf\nO 1 b.upf // comment\nNUMERICAL_ORBITAL\na.orb\nb.orb\nLATTICE_CONSTANT\n2.0\n"
        "LATTICE_VECTORS\n1 0 0\n0 2 0\n0 0 3\nATOMIC_POSITIONS\n{kind}\n\nO\n0.0\n1\n{o} 1 1 1\n"
        "Fe1\n2.0\n1\n0 0 0 m 0 0 1\n"
    )
    for kind, o in (("Direct", "0.5 0.25 0.5"), ("Cartesian", "0.5 0.5 1.5"), ("Cartesian_au", "1 1 3")):
        path.write_text(text.format(kind=kind, o=o))
        stru = read_stru(path)
        assert stru.symbols == ("O", "Fe") and stru.orbital_files == ("a.orb", "b.orb")
        assert stru.fractional == pytest.approx(np.array([[0.5, 0.25, 0.5], [0, 0, 0]]))
        assert stru.cell == pytest.approx(np.diag([2.0, 4.0, 6.0]))
    path.write_text(text.format(kind="Cartesian_angstrom", o="0.529177 0.529177 1.587531"))
    assert read_stru(path).fractional[0] == pytest.approx([0.5, 0.25, 0.5])
    for wrong, message in (
        (text.format(kind="Cartesian_angstrom_center_xy", o="0 0 0"), "kind of positions is not supported"),
        (text.replace("LATTICE_VECTORS", "LATTICE_PARAMETERS"), "lattice vectors are missing"),
        (text.format(kind="Direct", o="0 x 0"), "STRU is damaged"),
        (text.format(kind="Direct", o="0 0 0").replace("2.0\n1\n0 0 0", "2.0\n2\n0 0 0"), "STRU is damaged"),
        (text.format(kind="Direct", o="0 0 0").replace("\nO\n", "\nX\n"), "STRU is damaged"),
    ):
        path.write_text(wrong)
        with pytest.raises(DeepHError, match=message):
            read_stru(path)


def test_convert(abacus_run: Unpack, tmp_path: Path) -> None:
    run = abacus_run("gaas_soc_mag", "scf")
    arguments = ["--code", "abacus", str(run), str(tmp_path / "deeph")]
    assert CliRunner().invoke(command, arguments, catch_exceptions=False).exit_code == 0
    data = read_deeph(tmp_path / "deeph")
    assert off_mesh(run, data) < 8e-5 and data.spin is SpinMode.NONCOLLINEAR


def test_eigenvalue_files() -> None:
    for wrong in ("", "1 0.0 x\n", "2 0.0 1.0\n"):
        with pytest.raises(DataError, match="band energies are damaged"):
            parse_bands(wrong)
