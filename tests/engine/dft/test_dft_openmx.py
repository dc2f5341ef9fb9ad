"""OpenMX: H(R) and S(R) of real runs against OpenMX's own band energies, and files that must not be misread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from click.testing import CliRunner

from aiida_deeph.engine.cli.convert import command
from aiida_deeph.engine.dft.base import get_reader
from aiida_deeph.engine.dft.openmx.band_file import parse_bands
from aiida_deeph.engine.dft.openmx.code import OPENMX
from aiida_deeph.engine.dft.openmx.input_file import parse_input
from aiida_deeph.engine.dft.openmx.reader import OpenmxReader
from aiida_deeph.engine.dft.openmx.scfout import read_scfout
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.checks import run_gates
from aiida_deeph.engine.domain.gate import failures
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError, DeepHError, InputError
from aiida_deeph.engine.io.deeph import read_deeph
from aiida_deeph.engine.orbitals.pao import parse_orbital_name
from tests.engine.dft.spins import spin_rows

Unpack = Callable[[str], Path]
RUNS = {
    "graphene": (SpinMode.NONE, {"C": (0, 0, 1, 1, 2)}, 8),
    "mos2": (SpinMode.NONE, {"Mo": (0, 0, 0, 1, 1, 2), "S": (0, 0, 1, 1, 2)}, 26),
    "bi_soc": (SpinMode.NONCOLLINEAR, {"Bi": (0, 0, 1, 1, 2)}, 30),
    "fe_collinear": (SpinMode.COLLINEAR, {"Fe": (0, 0, 1, 1, 2)}, 16),
}


def band_error(data: RealSpaceHamiltonian, text: str) -> float:
    """Largest difference between eigenvalues from H(R), S(R) and OpenMX's own, eV."""
    bands = parse_bands(text)
    errors = []
    for k, expected in zip(bands.kpoints, bands.energies.transpose(1, 0, 2), strict=True):
        H, S = data.hamiltonian_at(k).toarray(), data.overlap_at(k).toarray()
        parts = [(H, S)]
        if data.spin is SpinMode.COLLINEAR:
            parts = [(H[np.ix_(rows, rows)], S[np.ix_(rows, rows)]) for rows in spin_rows(data)]
        for (h, s), energies in zip(parts, expected * OPENMX.hartree, strict=True):
            errors.append(np.abs(scipy.linalg.eigvalsh(h, s)[: len(energies)] - energies).max())
    return max(errors)


@pytest.mark.parametrize("name", RUNS)
def test_bands_off_the_mesh(openmx_run: Unpack, name: str) -> None:
    folder = openmx_run(name)
    data = get_reader("openmx").read(folder)
    text = (folder / "openmx.Band").read_text()
    assert band_error(data, text) < 1e-6
    assert data.fermi_energy == pytest.approx(parse_bands(text).fermi_energy * OPENMX.hartree, abs=1e-9)
    assert not failures(run_gates(data))
    spin, shells, n_electrons = RUNS[name]
    assert (data.spin, data.basis.shells, data.n_electrons) == (spin, shells, n_electrons)
    assert data.metadata["version"] == "3.9" and data.metadata["converged"]
    assert data.metadata["settings"]["xc"] == "GGA-PBE" and data.metadata["scf_cycles"] > 10


def test_structure_is_that_of_the_input(openmx_run: Unpack) -> None:
    data = OpenmxReader().read(openmx_run("mos2"))
    assert data.structure.symbols == ("Mo", "S", "S") and data.structure.pbc == (True, True, True)
    expected = [[0, 1.8244268506, 10], [0, 0, 8.44], [0, 0, 11.56]]
    assert data.structure.positions == pytest.approx(np.array(expected), abs=1e-6)
    assert data.structure.cell[0] == pytest.approx(np.array([3.16, 0, 0]), abs=1e-6)


def test_direction_of_cells_and_order_of_orbitals(openmx_run: Unpack) -> None:
    """Two p_z in graphene's plane overlap with one sign; s and p along the bond with the sign of the direction."""
    data = OpenmxReader().read(openmx_run("graphene"))
    pairs = data.overlap.atom_pairs
    vectors = data.structure.pair_vectors(pairs)
    near = np.flatnonzero(np.abs(np.linalg.norm(vectors, axis=1) - 1.4203) < 0.01)
    assert len(near) == 6
    for row in near:
        block = data.overlap.block(pairs[row, :3], *pairs[row, 3:])
        assert block[3, 3] > 0.1  # p_z stands in the middle of (y, z, x)
        assert block[0, 3] == pytest.approx(0, abs=1e-8)
        # <s in cell 0 | p at vector> = -c * direction.
        direction = vectors[row, [1, 2, 0]] / np.linalg.norm(vectors[row])
        assert block[0, 2:5] @ direction < -0.1
        assert block[0, 2:5] == pytest.approx((block[0, 2:5] @ direction) * direction, abs=1e-6)


def test_collinear_and_noncollinear_blocks(openmx_run: Unpack) -> None:
    iron = OpenmxReader().read(openmx_run("fe_collinear"))
    block = iron.hamiltonian.block((0, 0, 0), 0, 0)
    assert block.shape == (26, 26) and not block[:13, 13:].any() and not block[13:, :13].any()
    assert (np.diag(block)[8:13] - np.diag(block)[21:26]).real.max() < -0.5  # the majority lies lower
    bismuth = OpenmxReader().read(openmx_run("bi_soc"))
    block = bismuth.hamiltonian.block((0, 0, 0), 0, 0)
    # xi L.S on the first p shell, m = y, z, x: <x up|H|y up> = -i xi / 2 and <z up|H|x down> = xi / 2.
    up, down = np.arange(2, 5), np.arange(15, 18)
    xi = -2 * block[up[2], up[0]].imag
    assert xi > 0.5 and block[up[1], down[2]].real == pytest.approx(-xi / 2, rel=0.05)
    assert np.abs(block - block.conj().T).max() < 1e-8


@pytest.mark.parametrize("share", [0.0, 1e-5, 0.01, 0.02, 0.1, 0.5, 0.99, 1.0])
def test_truncated_file(openmx_run: Unpack, share: float) -> None:
    path = openmx_run("bi_soc") / "openmx.scfout"
    content = path.read_bytes()
    path.write_bytes(content[: min(int(share * len(content)), len(content) - 1)])
    with pytest.raises(DataError, match="truncated"):
        read_scfout(path)


@pytest.mark.parametrize("place", [24, 1000, 20_000, 30_000, 700_000, 1_380_000])
def test_bytes_out_of_place(openmx_run: Unpack, place: int) -> None:
    """Eight bytes too many or too few, anywhere."""
    path = openmx_run("bi_soc") / "openmx.scfout"
    content = path.read_bytes()
    for changed in (content[:place] + bytes(8) + content[place:], content[:place] + content[place + 8 :]):
        path.write_bytes(changed)
        with pytest.raises(DeepHError, match=r"damaged|truncated|not a scfout"):
            read_scfout(path)


def test_what_follows_the_known_part_is_left_alone(openmx_run: Unpack) -> None:
    """`.out` appended, as guides of old have it, or matrices that a build adds: the same data, verified as always."""
    folder = openmx_run("graphene")
    path = folder / "openmx.scfout"
    content = path.read_bytes()
    known = OpenmxReader().read(folder)
    for more in ((folder / "openmx.out").read_bytes(), np.random.default_rng(0).standard_normal(999).tobytes()):
        path.write_bytes(content + more)
        data = OpenmxReader().read(folder)
        assert np.array_equal(data.hamiltonian.entries, known.hamiltonian.entries)
        assert data.metadata == known.metadata
    # Not at the cost of finding what is out of place.
    path.write_bytes(content[:1_000_000] + bytes(8) + content[1_000_000:] + more)
    with pytest.raises(DataError, match="scfout is damaged"):
        read_scfout(path)


def test_other_layouts_and_foreign_files(openmx_run: Unpack) -> None:
    path = openmx_run("graphene") / "openmx.scfout"
    content = path.read_bytes()
    head = np.frombuffer(content[:28], np.int32).copy()

    def with_head(change: dict[int, int], swap: bool = False) -> None:
        new = head.copy()
        for n, value in change.items():
            new[n] = value
        path.write_bytes((new.byteswap() if swap else new).tobytes() + content[28:])

    for version, name in ((0, "3.8 or older"), (1, "3.8 or older"), (3, "3.8 or older"), (4, "3.7"), (11, "3.7")):
        with_head({1: version})
        with pytest.raises(InputError, match=name):
            read_scfout(path)
    for change in ({1: 16}, {1: 14}, {0: 0}, {0: -1}, {5: -5}, {6: 0}):
        with_head(change)
        with pytest.raises(InputError, match="not a scfout"):
            read_scfout(path)
    with_head({}, swap=True)
    with pytest.raises(InputError, match="byte order"):
        read_scfout(path)
    with_head({3: 2})
    with pytest.raises(InputError, match="NEGF"):
        read_scfout(path)
    path.write_bytes(b"System.Name graphene\n" * 1000)
    with pytest.raises(InputError, match="not a scfout"):
        read_scfout(path)
    with_head({1: 13})  # collinear by its header, but too few matrices
    with pytest.raises(DataError, match="truncated"):
        read_scfout(path)


def test_not_converged(openmx_run: Unpack) -> None:
    folder = openmx_run("graphene")
    text = (folder / "openmx.out").read_text()
    (folder / "openmx.out").write_text(text.replace("-3.830010628641\n", "-3.830010728641\n", 1))
    with pytest.raises(DataError, match=r"did not converge.*19 steps, last change of Uele 9.8e-08"):
        OpenmxReader().read(folder)
    lines = text.splitlines(keepends=True)
    first = next(n for n, line in enumerate(lines) if "SCF=   3" in line)
    (folder / "openmx.out").write_text("".join(lines[:first]))  # two steps of equal energy
    with pytest.raises(DataError, match=r"did not converge.*2 steps"):
        OpenmxReader().read(folder)
    (folder / "openmx.out").write_text(text.replace("scf.criterion 1.0e-8", "scf.criterion 1.0D-10"))
    with pytest.raises(DataError, match="did not converge"):
        OpenmxReader().read(folder)


def test_residual_counts_only_at_the_last_step_that_was_allowed(openmx_run: Unpack) -> None:
    """With Simple and GR-Pulay mixing OpenMX stops, converged, at a printed NormRD far above the criterion."""
    folder = openmx_run("graphene")
    text = (folder / "openmx.out").read_text().replace("NormRD=  0.000000014590", "NormRD=  0.000960000000", 1)
    (folder / "openmx.out").write_text(text)
    assert OpenmxReader().read(folder).metadata["converged"]
    (folder / "openmx.out").write_text(text.replace("scf.maxIter 200", "scf.maxIter 19", 1))
    with pytest.raises(DataError, match=r"did not converge.*NormRD 9.6e-04.*within 19 steps"):
        OpenmxReader().read(folder)


def test_incomplete_runs(openmx_run: Unpack, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no scfout"):
        OpenmxReader().read(tmp_path)
    folder, other = openmx_run("graphene"), openmx_run("mos2")
    text = (folder / "openmx.out").read_text()
    (folder / "openmx.out").write_text((other / "openmx.out").read_text())
    with pytest.raises(DataError, match="different runs"):
        OpenmxReader().read(folder)
    (folder / "openmx.out").write_text(text[: text.index("SCF history")])
    with pytest.raises(DataError, match="incomplete"):
        OpenmxReader().read(folder)
    (folder / "openmx.out").write_text("something else")
    with pytest.raises(InputError, match="not an OpenMX output"):
        OpenmxReader().read(folder)
    (folder / "openmx.out").unlink()
    with pytest.raises(InputError, match="main output cannot be read"):
        OpenmxReader().read(folder)
    (folder / "copy.scfout").write_bytes(b"")
    with pytest.raises(InputError, match="several runs"):
        OpenmxReader().read(folder)


def test_convert(openmx_run: Unpack, tmp_path: Path) -> None:
    folder = openmx_run("bi_soc")
    arguments = ["--code", "openmx", str(folder), str(tmp_path / "deeph")]
    assert CliRunner().invoke(command, arguments, catch_exceptions=False).exit_code == 0
    data = read_deeph(tmp_path / "deeph")
    assert band_error(data, (folder / "openmx.Band").read_text()) < 1e-6
    assert data.n_electrons == 30 and data.metadata["settings"]["spin_orbit"] == "on"


def test_band_file(openmx_run: Unpack) -> None:
    text = (openmx_run("fe_collinear") / "openmx.Band").read_text()
    bands = parse_bands(text)
    assert bands.kpoints.shape == (5, 3) and bands.energies.shape == (2, 5, 13) and bands.labels == (("G", "H"),)
    for wrong in (text[: len(text) // 2], "", text.replace("0.125000000000000", "0.125000000000001", 1)):
        with pytest.raises(DataError, match="damaged"):
            parse_bands(wrong)


def test_orbital_name() -> None:
    name = parse_orbital_name("Fe5.5H-s2p2d1")
    assert (name.file, name.element, name.shells, name.contracted) == ("Fe5.5H", "Fe", (0, 0, 1, 1, 2), False)
    name = parse_orbital_name("C6.0_1s-s4>2p3>1f1")
    assert (name.file, name.shells, name.contracted) == ("C6.0_1s", (0, 0, 1, 3), True)
    for wrong in ("C6.0", "s2p2", "C6.0-p2s2", "C6.0-s0", "C6.0-s2s1", "C6.0-x1", "C-s1", "C6.0-s"):
        with pytest.raises(InputError, match="not understood"):
            parse_orbital_name(wrong)


def test_input_file() -> None:
    text = "scf.XcType  GGA-PBE # comment\n<Block\n a 1 # x\n\n b 2\nBlock>\nSCF.kgrid 1 2 3\n"
    parsed = parse_input(text)
    assert parsed.word("scf.xctype") == "GGA-PBE" and parsed.keywords["scf.kgrid"] == ("1", "2", "3")
    assert parsed.blocks == {"block": ("a 1", "b 2")} and parsed.word("absent", "x") == "x"
    with pytest.raises(DataError, match="species are missing"):
        parsed.species("test")
