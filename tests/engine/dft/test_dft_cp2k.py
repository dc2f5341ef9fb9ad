"""CP2K: H(R) and S(R) of real runs against CP2K's own bands and against integrals."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg

from aiida_deeph.engine.dft.base import get_reader
from aiida_deeph.engine.dft.cp2k.band_structure import parse_band_structure
from aiida_deeph.engine.dft.cp2k.csr import RECORD
from aiida_deeph.engine.dft.cp2k.input_file import StatedGeometry, parse_input, stated_geometry
from aiida_deeph.engine.dft.cp2k.main_output import find_main_output, parse_main_output
from aiida_deeph.engine.dft.cp2k.reader import Cp2kReader
from aiida_deeph.engine.dft.cp2k.required_input import BANDS_FILE, required_input
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.orbitals.gaussian import GaussianBasis, GaussianShells
from aiida_deeph.engine.overlap.basis import load_basis
from aiida_deeph.engine.overlap.gaussian import overlap_gaussian
from aiida_deeph.engine.preprocess.source import read_gated
from tests.engine.dft.spins import spin_rows

Unpack = Callable[[str], Path]
RUNS = ["bn_chain", "nh_chain_unrestricted"]


def band_error(data: RealSpaceHamiltonian, text: str) -> float:
    """Largest difference between eigenvalues from H(R), S(R) and CP2K's own, eV."""
    bands = parse_band_structure(text)
    errors = []
    for k, expected in zip(bands.kpoints, bands.energies.transpose(1, 0, 2), strict=True):
        H, S = data.hamiltonian_at(k).toarray(), data.overlap_at(k).toarray()
        parts = [(H, S)]
        if data.spin is SpinMode.COLLINEAR:
            parts = [(H[np.ix_(rows, rows)], S[np.ix_(rows, rows)]) for rows in spin_rows(data)]
        for (h, s), energies in zip(parts, expected, strict=True):
            errors.append(np.abs(scipy.linalg.eigvalsh(h, s)[: len(energies)] - energies).max())
    return max(errors)


@pytest.mark.parametrize("name", RUNS)
def test_bands_off_the_mesh(cp2k_run: Unpack, name: str) -> None:
    folder = cp2k_run(name)
    data = get_reader("cp2k").read(folder)
    assert band_error(data, (folder / BANDS_FILE).read_text()) < 1e-5
    assert data.hamiltonian.hermiticity_error() < 1e-9 and data.overlap.hermiticity_error() < 1e-12
    assert np.array_equal(data.hamiltonian.atom_pairs, data.overlap.atom_pairs)
    assert data.metadata["version"] == "2023.1" and data.metadata["converged"]


def basis_of_output(text: str) -> GaussianBasis:
    """The basis as the main output prints it, with six decimals."""
    from pyscf.gto.mole import gto_norm

    shells: dict[str, tuple[GaussianShells, ...]] = {}
    for part in re.split(r"\n +\d+\. Atomic kind: ", text[text.index("BASIS SET INFORMATION") :])[1:]:
        symbol = part.split()[0]
        if symbol in shells:
            break
        tables: list[tuple[int, list[list[float]]]] = []
        for line in part.splitlines():
            words = line.split()
            if re.fullmatch(r"(\s+\d+){4}(\s+-?\d+\.\d+){2}", line):
                tables.append((int(words[3]), []))
            if re.fullmatch(r"(\s+\d+){0,4}(\s+-?\d+\.\d+){2}", line) and tables:
                tables[-1][1].append([float(w) for w in words[-2:]])
        shells[symbol] = tuple(
            GaussianShells(l, np.array(t)[:, 0], np.array(t)[:, 1:] / gto_norm(l, np.array(t)[:, 0])[:, None])
            for l, t in tables
        )
    return GaussianBasis(shells)


@pytest.mark.parametrize("name", RUNS)
def test_direction_of_cells_and_order_of_orbitals(cp2k_run: Unpack, name: str) -> None:
    """S equals integrals of the printed basis, d orbitals included: eigenvalues cannot see a wrong sign of R."""
    pytest.importorskip("pyscf")
    folder = cp2k_run(name)
    data = Cp2kReader().read(folder)
    basis = basis_of_output((folder / "aiida.out").read_text())
    orbital_basis, expected = overlap_gaussian(data.structure, basis, data.overlap.atom_pairs)
    assert orbital_basis.shells == data.basis.shells
    assert np.abs(expected.entries - data.overlap.entries).max() < 2e-5
    reverse = data.overlap.atom_pairs * [-1, -1, -1, 1, 1]
    assert np.abs(overlap_gaussian(data.structure, basis, reverse)[1].entries - data.overlap.entries).max() > 0.01


def test_unrestricted(cp2k_run: Unpack) -> None:
    data = Cp2kReader().read(cp2k_run("nh_chain_unrestricted"))
    assert data.spin is SpinMode.COLLINEAR and data.n_electrons == 6
    assert data.basis.shells == {"N": (0, 0, 1, 1, 2), "H": (0,)}
    block = data.hamiltonian.block((0, 0, 0), 0, 0)
    assert block.shape == (26, 26) and not block[:13, 13:].any() and not block[13:, :13].any()
    assert np.abs(block[:13, :13] - block[13:, 13:]).max() > 0.1  # a triplet


def test_positions_stay_where_they_are(cp2k_run: Unpack) -> None:
    """CP2K wraps atoms; one of these lies outside the cell, the other on the border where rounding decides."""
    folder = cp2k_run("bn_chain")
    data = Cp2kReader().read(folder)
    assert data.structure.positions == pytest.approx(np.array([[1.3, 0.1, 4.0], [2.7, 0.2, 8.2]]))
    distances = np.linalg.norm(data.structure.pair_vectors(data.overlap.atom_pairs), axis=1)
    assert data.overlap.norms()[distances > 6].max() < 1e-3 < data.overlap.norms()[distances < 5].min()


def test_not_converged(cp2k_run: Unpack) -> None:
    folder = cp2k_run("bn_chain")
    text = (folder / "aiida.out").read_text()
    line = re.search(r"  \*\*\* SCF run converged in .*", text).group()
    (folder / "aiida.out").write_text(text.replace(line, " *** WARNING in qs_scf.F:601 :: SCF run NOT converged ***"))
    with pytest.raises(DataError, match="did not converge"):
        Cp2kReader().read(folder)


def test_output_is_found_by_content_and_the_last_run_counts(cp2k_run: Unpack) -> None:
    folder = cp2k_run("bn_chain")
    text = (folder / "aiida.out").read_text()
    (folder / "aiida.out").unlink()
    (folder / "log.txt").write_text(text.replace("SCF run converged in", "SCF run NOT converged in") + text)
    assert find_main_output(folder).name == "log.txt"
    output = parse_main_output(folder / "log.txt")
    assert output.converged and output.electrons == (8,) and len(output.cells["KS"]) == 63


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("KS CSR write|", "KS_CSR_WRITE|without real-space"),
        ("S CSR write|", "S_CSR_WRITE"),
        ("BASIS SET INFORMATION", "KINDS / BASIS_SET"),
    ],
)
def test_missing_print_keys_are_named(cp2k_run: Unpack, remove: str, message: str) -> None:
    folder = cp2k_run("bn_chain")
    path = folder / "aiida.out"
    path.write_text(path.read_text().replace(remove, "nothing"))
    with pytest.raises(InputError, match=message):
        Cp2kReader().read(folder)


def test_damaged_matrices(cp2k_run: Unpack) -> None:
    folder = cp2k_run("bn_chain")
    path = folder / "aiida-KS_SPIN_1_R_1-1_0.csr"
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    with pytest.raises(DataError, match="damaged"):
        Cp2kReader().read(folder)
    records = np.frombuffer(content, dtype=RECORD).copy()
    records["row"][-1] = 99
    path.write_bytes(records.tobytes())
    with pytest.raises(DataError, match="does not fit the basis"):
        Cp2kReader().read(folder)
    path.unlink()
    with pytest.raises(DataError, match="files are missing"):
        Cp2kReader().read(folder)


def stated(text: str, folder: Path) -> StatedGeometry:
    """The geometry of an input with this SUBSYS."""
    return stated_geometry(parse_input(f"&FORCE_EVAL\n&SUBSYS\n{text}\n&END\n&END"), folder / "a.inp")


def test_structure_from_other_inputs(tmp_path: Path) -> None:
    text = """&CELL
          ABC [bohr] 4 5 \\
             6
          ALPHA_BETA_GAMMA 90 90 120  ! a comment
          PERIODIC XY
        &END
        &COORD
          SCALED
          C1 0.5 1/4 -0.5D0
        &END COORD"""
    found = stated(text, tmp_path)
    bohr = 0.529177210903
    cell = np.array([[4, 0, 0], [-2.5, 5 * np.sqrt(3) / 2, 0], [0, 0, 6]]) * bohr
    assert found.cell == pytest.approx(cell) and found.pbc == (True, True, False)
    assert found.positions[0] == pytest.approx(np.array([0.5, 0.25, -0.5]) @ cell)
    assert found.elements == {"C1": "C"} and not found.moved_by and not found.ghosts
    with pytest.raises(InputError, match="preprocessor"):
        parse_input("@SET X 1")
    with pytest.raises(InputError, match="without &END"):
        parse_input("&DFT")
    with pytest.raises(InputError, match=r"number is not understood.*4 5"):
        stated(text.replace("\\\n             6", ""), tmp_path)
    with pytest.raises(InputError, match="position is not understood"):
        stated(text.replace("1/4", "1/0"), tmp_path)


# Geometry that CP2K ran, by its output or by what its input states, of inputs that say it in other ways.
RAN: dict[str, tuple[list[float], list[float], list[float]]] = {
    # lengths of the lattice vectors, angles, position of the last atom
    "low": ([1.9, 5, 5], [90, 90, 90], [0.93, 0.3, 0]),
    "muc": ([1.9, 5, 5], [90, 90, 90], [0.93, 0.3, 0]),
    "muc2": ([3.8, 5, 5], [90, 90, 90], [2.83, 0.3, 0]),
    "frac": ([1.9, 5, 5], [90, 90, 90], [1.9 * 2 / 3, 0.3, 0]),
    "both": ([2.1, 5.2, 5.3], [90, 90, 90], [0.93, 0.3, 0]),
    "sym": ([2.4, 2.4, 4], [90, 90, 60], [0.93, 0.3, 0]),
    "angles": ([2.4, 2.4, 4], [90, 90, 120], [0.93, 0.3, 0]),
    "units": ([1.905038, 4.974266, 5.027183], [85.943669, 90, 90], [0.899601, 0.158753, 0]),
    "ext": ([2.0, 5.1, 5], [90, 90, 90], [0.93, 0.35, 0]),
    "perm": ([5, 5, 1.9], [90, 90, 90], [0.93, 0.3, 0]),
    "center": ([1.9, 5, 5], [90, 90, 90], [1.365, 2.55, 2.45]),
}


@pytest.mark.parametrize("name", RAN)
def test_geometry_is_what_the_program_ran_not_what_the_input_says(cp2k_run: Unpack, name: str) -> None:
    """S of the run is that of integrals over the printed basis at these positions, in this cell."""
    pytest.importorskip("pyscf")
    folder = cp2k_run("geometries") / name
    data = Cp2kReader().read(folder)
    lengths, angles, last = RAN[name]
    cell = data.structure.cell
    assert np.linalg.norm(cell, axis=1) == pytest.approx(np.array(lengths), abs=1e-6)
    cosines = [
        cell[i] @ cell[j] / np.linalg.norm(cell[i]) / np.linalg.norm(cell[j]) for i, j in ((1, 2), (0, 2), (0, 1))
    ]
    assert np.degrees(np.arccos(cosines)) == pytest.approx(np.array(angles), abs=1e-5)
    assert data.structure.positions[-1] == pytest.approx(np.array(last), abs=1e-6)
    basis = basis_of_output((folder / "aiida.out").read_text())
    expected = overlap_gaussian(data.structure, basis, data.overlap.atom_pairs)[1]
    assert np.abs(expected.entries - data.overlap.entries).max() < 2e-5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ghost", r"ghost atoms are not supported.*found atom 3"),
        ("low_center", r"geometry of the run is not known.*CENTER_COORDINATES.*PRINT_LEVEL MEDIUM"),
        ("coarse", r"matrices lack entries.*KS_CSR_WRITE; found THRESHOLD 1.0E-02"),
    ],
)
def test_runs_that_are_refused(cp2k_run: Unpack, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Cp2kReader().read(cp2k_run("geometries") / name)


def test_ghosts_at_low_print_level_by_their_kind(cp2k_run: Unpack) -> None:
    folder = cp2k_run("geometries") / "low"
    path = folder / "bn.inp"
    path.write_text(path.read_text().replace("&KIND H\n", "&KIND H\n GHOST\n"))
    with pytest.raises(InputError, match=r"ghost atoms are not supported.*found H"):
        Cp2kReader().read(folder)


def test_geometry_of_the_output_alone(cp2k_run: Unpack) -> None:
    """Without the input, or with that of another run: what is printed, to its digits."""
    folder = cp2k_run("geometries") / "muc"
    known = Cp2kReader().read(folder)
    path = folder / "bn.inp"
    path.write_text(path.read_text().replace("0.93", "0.95").replace("A 1.9", "A 1.95"))
    for _ in range(2):
        data = Cp2kReader().read(folder)
        assert data.structure.positions == pytest.approx(known.structure.positions, abs=1e-6)
        assert data.structure.cell == pytest.approx(known.structure.cell, abs=1e-6)
        path.unlink(missing_ok=True)
    # Of a cell in another orientation three decimals are too few.
    with pytest.raises(InputError, match="cell of the run is not known"):
        folder = folder.parent / "perm"
        (folder / "bn.inp").unlink()
        Cp2kReader().read(folder)


def test_run_that_did_not_end(cp2k_run: Unpack) -> None:
    folder = cp2k_run("bn_chain")
    path = folder / "aiida.out"
    path.write_text(path.read_text().replace("PROGRAM ENDED AT", "PROGRAM"))
    with pytest.raises(DataError, match=r"incomplete.*PROGRAM ENDED AT"):
        Cp2kReader().read(folder)


def test_full_disk_leaves_matrices_that_are_refused(cp2k_run: Unpack) -> None:
    """CP2K ends with status 0: of R = 0 nothing, or of R less than of -R."""
    folder = cp2k_run("bn_chain")
    first, second = (folder / f"aiida-KS_SPIN_1_R_{n}-1_0.csr" for n in (1, 2))
    content = first.read_bytes(), second.read_bytes()
    first.write_bytes(b"")
    with pytest.raises(DataError, match=r"matrix is empty.*R_1-1_0.*full disk"):
        Cp2kReader().read(folder)
    first.write_bytes(content[0])
    second.write_bytes(content[1][:-24])
    with pytest.raises(DataError, match=r"matrix is incomplete.*full disk"):
        Cp2kReader().read(folder)


def test_number_of_a_matrix_file_is_its_place_in_the_table(cp2k_run: Unpack) -> None:
    """From 1000 periodic images on there is no room for the number."""
    folder = cp2k_run("bn_chain")
    path = folder / "aiida.out"
    text = path.read_text()
    known = parse_main_output(path).cells
    starred = re.sub(r"(?m)^ +(5\d|6\d)(?=( +-?\d+){3}$)", "       ***", text)
    path.write_text(starred.replace("CSR write|  63 periodic", "CSR write|63 periodic"))
    assert starred.count("***  ") > 20 and parse_main_output(path).cells == known
    path.write_text(text.replace("       12 ", "       13 "))
    with pytest.raises(DataError, match="table of lattice vectors is damaged"):
        parse_main_output(path)


def test_band_structure_cut_off(cp2k_run: Unpack) -> None:
    text = (cp2k_run("nh_chain_unrestricted") / BANDS_FILE).read_text()
    bands = parse_band_structure(text)
    assert bands.energies.shape[:2] == (2, 3) and bands.kpoints[1] == pytest.approx([0.27, 0, 0])
    assert bands.occupations[:, 0].sum() == pytest.approx(6, abs=1e-6)
    with pytest.raises(DataError, match="damaged"):
        parse_band_structure(text[:-400])


def render(sections: Mapping[str, Any]) -> str:
    """Text of a CP2K input."""
    lines = []
    for key, value in sections.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                rest = {k: v for k, v in item.items() if k != "_"}
                lines += [f"&{key} {item.get('_', '')}", render(rest), f"&END {key}"]
            else:
                lines.append(f"{key} {str(item).upper() if isinstance(item, bool) else item}")
    return "\n".join(lines)


def merged(a: dict[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **a,
        **{k: merged(a[k], v) if isinstance(v, dict) and isinstance(a.get(k), dict) else v for k, v in b.items()},
    }


@pytest.mark.requires("cp2k")
def test_real_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The input of `required_input` works, the bands agree, and S equals libcint's to 1e-7 with the full basis set."""
    pytest.importorskip("pyscf")
    bands = [(0.03, 0.0, 0.0), (0.27, 0.0, 0.0), (0.5, 0.0, 0.0)]
    sections = merged(
        {
            "GLOBAL": {"PROJECT": "chain", "RUN_TYPE": "ENERGY", "PRINT_LEVEL": "MEDIUM"},
            "FORCE_EVAL": {
                "DFT": {
                    "BASIS_SET_FILE_NAME": "BASIS_MOLOPT",
                    "POTENTIAL_FILE_NAME": "GTH_POTENTIALS",
                    "MGRID": {"CUTOFF": 120, "REL_CUTOFF": 30},
                    "QS": {"EPS_DEFAULT": 1e-12},
                    "SCF": {
                        "EPS_SCF": 1e-6,
                        "MAX_SCF": 40,
                        "ADDED_MOS": 2,
                        "SMEAR": {"_": "ON", "METHOD": "FERMI_DIRAC", "ELECTRONIC_TEMPERATURE": "[K] 300"},
                        "MIXING": {"METHOD": "BROYDEN_MIXING", "ALPHA": 0.4},
                    },
                    "XC": {"XC_FUNCTIONAL": {"_": "PBE"}},
                },
                "SUBSYS": {
                    "CELL": {"A": "3.1 0.1 0.0", "B": "0.0 7.0 0.2", "C": "0.3 0.0 7.5"},
                    "COORD": {"H": ["0.1 0.2 0.3", "0.8 0.4 0.1"]},
                    "KIND": {"_": "H", "BASIS_SET": "DZVP-MOLOPT-SR-GTH", "POTENTIAL": "GTH-PBE-q1"},
                },
            },
        },
        required_input((3, 1, 1), bands=bands, added_bands=4),
    )
    (tmp_path / "chain.inp").write_text(render(sections))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    program = shutil.which("cp2k")
    subprocess.run([program, "-i", "chain.inp", "-o", "chain.out"], cwd=tmp_path, check=True, capture_output=True)
    data = Cp2kReader().read(tmp_path)
    text = (tmp_path / BANDS_FILE).read_text()
    assert parse_band_structure(text).kpoints == pytest.approx(np.array(bands))
    assert band_error(data, text) < 1e-5
    folder = re.search(r"Data directory path\s+(\S+)", (tmp_path / "chain.out").read_text()).group(1)
    basis = load_basis(f"cp2k:{folder}/BASIS_MOLOPT:DZVP-MOLOPT-SR-GTH", ("H",), tmp_path)
    assert basis.n_electrons(data.structure.symbols) == data.n_electrons == 2
    expected = overlap_gaussian(data.structure, basis, data.overlap.atom_pairs)[1]
    assert np.abs(expected.entries - data.overlap.entries).max() < 1e-7


@pytest.mark.parametrize("name", ["bn_chain", "nh_chain_unrestricted"])
def test_overlaps_are_held_against_the_gaussians_that_the_output_prints(cp2k_run: Unpack, name: str) -> None:
    data, (gate,) = read_gated("cp2k", cp2k_run(name))
    assert gate.name == "S as integrals" and gate.passed and gate.value is not None and gate.value < 1e-4
    settings = data.metadata["settings"]
    assert settings["functional"] == "PBE" and settings["k_grid"][1:] == [1, 1] and settings["energy_cutoff_Ry"] > 100
    assert settings["basis"]["N"].endswith("ZVP-MOLOPT-SR-GTH") or settings["basis"]["N"] == "SZV-MOLOPT-SR-GTH"
    assert settings["pseudopotentials"]["N"] == "GTH-PBE-q5" and len(settings["basis_sha256"]["N"]) == 16


def test_functional_of_the_input_where_the_output_does_not_tell_it(cp2k_run: Unpack) -> None:
    run = cp2k_run("bn_chain")
    text = (run / "aiida.out").read_text()
    (run / "aiida.out").write_text(re.sub(r"^ (FUNCTIONAL|BRILLOUIN)\|.*\n", "", text, flags=re.MULTILINE))
    settings = Cp2kReader().read(run).metadata["settings"]
    assert settings["functional"] == "PBE" and len(settings["k_grid"]) == 3
