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
from aiida_deeph.engine.dft.cp2k.main_output import find_main_output, parse_main_output
from aiida_deeph.engine.dft.cp2k.reader import Cp2kReader
from aiida_deeph.engine.dft.cp2k.required_input import BANDS_FILE, required_input
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.overlap.basis import load_basis
from aiida_deeph.engine.overlap.gaussian import overlap_gaussian
from aiida_deeph.engine.preprocess.source import read_gated
from tests.engine.dft.cp2k_files import basis_of_output
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
