"""Quantum ESPRESSO and HPRO: a real label (a chain of C and H, atoms outside the cell), its files, its inputs."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.linalg

from aiida_deeph.engine.dft.qe import hpro_driver
from aiida_deeph.engine.dft.qe.code import ARTEFACTS
from aiida_deeph.engine.dft.qe.gth import gaussian_table, gth_potential, gth_upf
from aiida_deeph.engine.dft.qe.hpro_files import N_POINTS, hpro_ion, read_shells, table
from aiida_deeph.engine.dft.qe.reader import QeReader
from aiida_deeph.engine.dft.qe.render import PwRun, checked_namelists, pw2bgw_input, pw_input
from aiida_deeph.engine.dft.qe.upf import hpro_upf, read_upf
from aiida_deeph.engine.dft.qe.xml_output import element_of, read_pw_xml
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.orbitals.radial import RadialShell
from aiida_deeph.engine.overlap.basis import load_numeric
from aiida_deeph.engine.overlap.radial import NumericOverlap

ARCHIVE = Path(__file__).parents[2] / "fixtures" / "qe" / "polyacetylene.tar.xz"
BASIS = "gth-szv-molopt-sr"


@pytest.fixture
def run(tmp_path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "polyacetylene"


def levels(data, k) -> np.ndarray:
    return scipy.linalg.eigh(data.hamiltonian_at(k).toarray(), data.overlap_at(k).toarray(), eigvals_only=True)


def test_all_artefacts_are_read(run):
    assert all((run / name).is_file() for name in ARTEFACTS)
    for name in ARTEFACTS:
        shutil.move(run / name, run / "hidden")
        with pytest.raises((InputError, DataError)) as error:
            QeReader().read(run)
        assert str(run) in str(error.value)
        shutil.move(run / "hidden", run / name)
    assert QeReader().read(run).metadata["converged"] is True


def test_bands_at_points_off_the_mesh(run):
    """Small basis, coarse grid: what the projection costs here; a wrong sign of R would cost electronvolts."""
    data, bands = QeReader().read(run), read_pw_xml(run / "bands.xml")
    assert bands.calculation == "bands" and len(bands.kpoints) == 3
    errors = np.array([levels(data, k)[:5] - e[:5] for k, e in zip(bands.kpoints, bands.energies[0], strict=True)])
    assert np.abs(errors).mean() < 0.1 and np.abs(errors).max() < 0.3
    assert data.metadata["projection"]["mean_error_eV"] == pytest.approx(0.0755, abs=1e-4)


def test_the_error_that_the_driver_found_is_that_of_the_matrices(run):
    data, scf = QeReader().read(run), read_pw_xml(run / "data-file-schema.xml")
    assert scf.n_occupied == 5 and data.n_electrons == 10
    errors = np.array([levels(data, k)[:5] - e[:5] for k, e in zip(scf.kpoints, scf.energies[0], strict=True)])
    recorded = data.metadata["projection"]
    assert recorded["n_kpoints"] == len(scf.kpoints) == 3
    assert np.abs(errors).mean() == pytest.approx(recorded["mean_error_eV"], abs=1e-6)
    assert np.abs(errors).max() == pytest.approx(recorded["max_error_eV"], abs=1e-6)
    # The driver itself, on the same files, without HPRO.
    again = hpro_driver.compare(str(run / "deeph"), str(run / "data-file-schema.xml"), 2)
    assert again["n_kpoints"] == 2 and again["n_occupied"] == 5
    assert np.abs(errors[[0, 2]]).mean() == pytest.approx(again["mean_error_eV"], abs=1e-6)


def test_overlap_is_that_of_the_tables(run):
    """Order and signs of the orbitals, direction of R, positions outside the cell: all are in the integrals."""
    for symbol in "CH":
        (run / f"{symbol}.orb").write_text(gaussian_table(symbol, BASIS, 6.0))
    data = QeReader().read(run)
    basis = load_numeric(f"abacus:{run}", None, data.structure.elements, Path())
    assert basis.orbital_basis.shells == data.basis.shells
    pairs = data.overlap.atom_pairs
    S = NumericOverlap(basis).overlap(data.structure, pairs)
    on_site = ((pairs[:, 3] == pairs[:, 4]) & ~pairs[:, :3].any(axis=1))[S.pair_of_entry]
    found = np.abs(S.entries - data.overlap.entries)
    # Beyond HPRO's cutoff of 60 Ry the orbitals have a tail that matters on site.
    assert found[~on_site].max() < 1e-5 and found[on_site].max() < 3e-4


def changed(run: Path, name: str, old: str, new: str) -> None:
    text = (run / name).read_text()
    assert old in text
    (run / name).write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("data-file-schema.xml", "6.7MaX", "9.1", r"version of pw.x is not known.*found 9.1; expected 6.5 to 7.5"),
        ("hpro_result.json", "0.3.1.post1", "1.0", r"version of HPRO is not known.*found 1.0; expected 0.3"),
        ("data-file-schema.xml", "achieved>true", "achieved>false", "density did not converge.*12 cycles"),
        ("data-file-schema.xml", "<noncolin>false", "<noncolin>true", "magnets are not supported"),
        ("data-file-schema.xml", "<lsda>false", "<lsda>true", "magnets are not supported.*collinear spins"),
        ("data-file-schema.xml", '<atom name="H" index="3">', '<atom name="C" index="3">', "files of different runs"),
        ("data-file-schema.xml", '<atom name="C" index="2">', '<atom name="H" index="2">', "files of different runs"),
        ("data-file-schema.xml", '<atom name="H" index="4">', '<atom name="C" index="4">', "not grouped by element"),
        ("data-file-schema.xml", "<nelec>", "<nelec>x", "XML of pw.x is damaged"),
        ("hpro_result.json", "hpro_version", "version", "file is damaged.*no hpro_version"),
    ],
)
def test_refused(run, name, old, new, message):
    changed(run, name, old, new)
    with pytest.raises((InputError, DataError), match=message):
        QeReader().read(run)


def test_overlaps_that_carry_spin(run):
    """With spin-orbit coupling HPRO writes S for both spins too; here a run without, doubled by hand."""
    expected = QeReader().read(run)
    info = json.loads((run / "deeph" / "info.json").read_text())
    (run / "deeph" / "info.json").write_text(json.dumps({**info, "spinful": True}))
    for name, dtype in (("hamiltonian", complex), ("overlap", float)):
        path = run / "deeph" / f"{name}.h5"
        with h5py.File(path, "r+") as file:
            bounds, shapes = file["chunk_boundaries"][...], file["chunk_shapes"][...]
            blocks = [file["entries"][a:b].reshape(n) for (a, b), n in zip(pairwise(bounds), shapes, strict=True)]
            doubled = np.concatenate([np.kron(np.eye(2), block).ravel() for block in blocks]).astype(dtype)
            for key, values in (("chunk_boundaries", 4 * bounds), ("chunk_shapes", 2 * shapes), ("entries", doubled)):
                del file[key]
                file[key] = values
    with pytest.raises(DataError, match=r"files of different runs.*found spin noncollinear"):
        QeReader().read(run)
    for flag in ("noncolin", "spinorbit"):
        changed(run, "data-file-schema.xml", f"<{flag}>false", f"<{flag}>true")
    data = QeReader().read(run)
    assert data.spin is SpinMode.NONCOLLINEAR and np.array_equal(data.overlap.entries, expected.overlap.entries)
    k = (0.1, 0.2, 0.3)
    assert levels(data, k) == pytest.approx(np.repeat(levels(expected, k), 2), abs=1e-9)


def test_version_with_a_patch_level_is_known(run):
    changed(run, "data-file-schema.xml", "6.7MaX", "7.3.1")
    assert QeReader().read(run).metadata["version"] == "7.3.1"


def test_species_labels():
    assert [element_of(label) for label in ("C", "C1", "Fe_up", "FE2", "H", "Hx")] == ["C", "C", "Fe", "Fe", "H", "H"]
    with pytest.raises(ValueError, match="no element in species label 'X1'"):
        element_of("X1")


STRUCTURE = Structure(("C", "H", "C"), np.array([[0.0, 0, 0], [1.0, 0, -0.5], [0.5, 0.5, 2]]), np.diag([3.0, 4, 5]))
PSEUDOS = {"C": "C.upf", "H": "H.upf"}


def test_input_of_pw():
    namelists = checked_namelists({"system": {"ecutwfc": 60, "nbnd": 9}, "ELECTRONS": {"conv_thr": 1e-9}})
    text = pw_input(PwRun(STRUCTURE, namelists, PSEUDOS, kmesh=(3, 1, 1)))
    for line in ("ibrav = 0", "nosym = .true.", "ecutwfc = 60", "conv_thr = 1d-09", "ntyp = 2", "outdir = './out/'"):
        assert f"  {line}\n" in text
    assert "K_POINTS automatic\n3 1 1 0 0 0\n" in text and "calculation = 'scf'" in text
    # Grouped by element, since HPRO takes it so.
    assert re.findall(r"^([CH])  ?-?\d\.\d{12}", text, re.MULTILINE) == ["C", "C", "H"]
    text = pw_input(PwRun(STRUCTURE, namelists, PSEUDOS, kpoints=np.array([[0.1, 0, 0]])))
    assert "K_POINTS crystal\n1\n 0.100000000000" in text and "calculation = 'bands'" in text
    assert "vscg_flag = .true." in pw2bgw_input() and "real_or_complex = 2" in pw2bgw_input()


@pytest.mark.parametrize(
    ("namelists", "message"),
    [
        ({"SYSTEM": {"ecutwfc": 60, "nspin": 2}}, r"not supported; in parameters.SYSTEM.nspin; found magnets"),
        ({"SYSTEM": {"ecutwfc": 60, "starting_magnetization(1)": 0.5}}, "found magnets"),
        ({"SYSTEM": {"ecutwfc": 60, "noncolin": True}}, "not supported.*one of noncolin and lspinorb"),
        ({"SYSTEM": {"ecutwfc": 60, "ibrav": 2}}, r"not the user's; in parameters.SYSTEM.ibrav"),
        ({"CONTROL": {"outdir": "/x"}, "SYSTEM": {"ecutwfc": 60}}, r"not the user's; in parameters.CONTROL.outdir"),
        ({"IONS": {}}, "unknown namelist.*found IONS"),
        ({"ELECTRONS": {}}, "cutoff is missing"),
        ({"SYSTEM": {"ecutwfc": [1]}}, r"none of Fortran's; in parameters.SYSTEM.ecutwfc"),
        ({"SYSTEM": {"ecutwfc": 60, "occupations": "x' /"}}, "none of Fortran's"),
    ],
)
def test_namelists_refused(namelists, message):
    with pytest.raises(InputError, match=message):
        checked_namelists(namelists)


@pytest.mark.parametrize("symbol", ["H", "C", "Si"])
def test_gth_as_upf(symbol):
    """Projectors are normalised (eq. 3 of the paper), and D_ij are the table's in Rydberg."""
    potential = gth_potential(symbol)
    pseudo = read_upf(gth_upf(potential), symbol)
    assert pseudo.element == symbol and pseudo.valence == potential.valence and pseudo.functional == "PBE"
    assert pseudo.strengths == pytest.approx(2 * potential.strengths())
    assert ((pseudo.betas**2).sum(axis=1) * 0.01) == pytest.approx(np.ones(len(pseudo.ls)), abs=1e-6)
    r = np.array([0.0, 1e-4, 8.0])
    local = potential.local(r)
    assert local[0] == pytest.approx(local[1], abs=1e-6) and local[2] == pytest.approx(-potential.valence / 8.0)


def test_numbers_of_carbon():
    """Of the table by Krack: h11 = 9.62248665 Hartree, r_s = 0.30257575 Bohr, C1 = -8.80367398."""
    potential = gth_potential("C")
    assert potential.strengths() == pytest.approx(np.array([[9.62248665]])) and potential.valence == 4
    expected = -4 * np.sqrt(2 / np.pi) / 0.33847124 - 8.80367398
    assert potential.local(np.array([0.0])) == pytest.approx([expected])


@pytest.mark.parametrize("symbol", ["H", "Si"])
def test_projectors_for_hpro(symbol):
    pseudo = read_upf(gth_upf(gth_potential(symbol)), symbol)
    text = hpro_upf(pseudo).replace("<PP_HEADER ", '<PP_HEADER pseudo_type="NC" z_valence="1" ')
    copy = read_upf(text, "copy")
    n = len(copy.r)
    if symbol == "H":  # all local: one projector without strength, since HPRO needs one
        assert copy.ls == (0,) and not copy.strengths.any()
        return
    assert copy.ls == pseudo.ls and copy.betas == pytest.approx(pseudo.betas[:, :n], abs=1e-7)


def test_projectors_on_a_logarithmic_grid():
    """What HPRO cannot read is brought onto even steps."""
    pseudo = read_upf(gth_upf(gth_potential("Si")), "Si")
    potential = gth_potential("Si")
    r = np.exp(np.linspace(np.log(1e-4), np.log(12.0), 900))
    text = gth_upf(potential)
    replaced = [f'<PP_R type="real">\n{" ".join(f"{x:.15e}" for x in r)}\n</PP_R>']
    for n, (l, p) in enumerate(potential.projectors(r), start=1):
        values = " ".join(f"{x:.15e}" for x in r * p)
        replaced.append(f'<PP_BETA.{n} angular_momentum="{l}" cutoff_radius="1.0">\n{values}\n</PP_BETA.{n}>')
    text = re.sub(r"<PP_R .*?</PP_R>", replaced[0], text, flags=re.DOTALL)
    for n, block in enumerate(replaced[1:], start=1):
        text = re.sub(rf"<PP_BETA\.{n} .*?</PP_BETA\.{n}>", block, text, flags=re.DOTALL)
    logarithmic = read_upf(text, "log")
    assert len(logarithmic.r) == 900
    found = read_upf(hpro_upf(logarithmic).replace("<PP_HEADER ", '<PP_HEADER pseudo_type="NC" z_valence="4" '), "x")
    assert np.allclose(np.diff(found.r), 0.01)
    n = min(len(found.r), len(pseudo.r)) - 2
    assert found.betas[:, :n] == pytest.approx(pseudo.betas[:, :n], abs=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('<UPF version="2.0.1">', "<PP_INFO>", "not a UPF of version 2"),
        ('pseudo_type="NC"', 'pseudo_type="US"', "not norm-conserving.*found US"),
        ('is_paw="F"', 'is_paw="T"', "not norm-conserving"),
        ('has_so="F"', 'has_so="T"', "pseudopotential is damaged.*no jjj of PP_RELBETA.1"),
        ("</PP_BETA.1>", "", "pseudopotential is damaged.*no PP_BETA.1"),
        ('number_of_proj="1"', 'number_of_proj="2"', "pseudopotential is damaged.*no PP_BETA.2"),
    ],
)
def test_pseudopotentials_refused(old, new, message):
    text = gth_upf(gth_potential("C"))
    assert old in text
    with pytest.raises((InputError, DataError), match=message):
        read_upf(text.replace(old, new), "C.upf")


def test_orbitals_for_hpro_are_the_same_functions():
    """Tables of other lengths are interpolated to better than 1e-6; those of SIESTA are taken over."""
    _, valence, shells = read_shells(gaussian_table("C", "gth-dzvp-molopt-sr", 8.0), "C.orb")
    assert valence is None and [shell.l for shell in shells] == [0, 0, 1, 1, 2]
    text = hpro_ion("C", 4, shells, "C.orb")
    # As SIESTA's own reader would see them.
    header = "\n".join(["x # Symbol", "x #", "0 #", "4 #", "0 #", "0 #", f"0 {len(shells)} #", "0 #"])
    body = text.partition("# PAOs:______\n")[2]
    element, _, copies = read_shells(f"<preamble></preamble>\n{header}\n{body}", "x.ion")
    assert element == "x"
    for shell, copy in zip(shells, copies, strict=True):
        assert len(copy.r) == N_POINTS and copy.l == shell.l
        assert copy.r[-1] == pytest.approx(8.0, abs=0.02)
        # The points lie between those of the source: compare where both have one.
        common = np.linspace(0.02, 7.9, 60).round(2)
        assert copy.at(common) == pytest.approx(shell.values[np.rint(common / 0.01).astype(int)], abs=2e-5)
        r, values = table(copy)
        assert np.array_equal(r, np.linspace(0, copy.r[-1], N_POINTS))
        assert values[1:] * r[1:] ** copy.l == pytest.approx(copy.values[1:], rel=1e-12)


def test_gaussian_table_is_smooth_and_normalised():
    _, _, shells = read_shells(gaussian_table("C", "gth-szv-molopt-sr", 6.0, 2.0), "C.orb")
    for shell in shells:
        assert np.sum((shell.values * shell.r) ** 2) * 0.01 == pytest.approx(1, abs=1e-9)
        assert shell.values[shell.r >= 6.0 - 1e-9] == pytest.approx(0.0)
    with pytest.raises(InputError, match="cut does not fit"):
        gaussian_table("C", "gth-szv-molopt-sr", 2.0, 3.0)
    with pytest.raises(InputError, match="no such"):
        gth_potential("C", "gth-nothing")


def test_orbitals_refused():
    r = np.linspace(0, 5, 200)
    p, s = RadialShell(1, r, r * np.exp(-r)), RadialShell(0, r, np.exp(-r))
    with pytest.raises(DataError, match="not in the order of l"):
        hpro_ion("C", 4, (p, s), "x")
    with pytest.raises(InputError, match=r"found C6.0.pao; expected .orb, .ion or .ion.xml"):
        read_shells("", "C6.0.pao")


def test_label_of_the_potential(tmp_path, capsys):
    """pw2bgw.x of QE 6.7 calls it VXC, and HPRO wants VSC: four bytes behind the mark of the record."""
    path = tmp_path / "VSC"
    for label, result in ((b"VXC", b"VSC"), (b"VSC", b"VSC")):
        path.write_bytes(b"\x60\0\0\0" + label + b"-Complex")
        hpro_driver.set_label(str(path))
        assert path.read_bytes() == b"\x60\0\0\0" + result + b"-Complex"
    path.write_bytes(b"\x60\0\0\0RHO-Complex")
    with pytest.raises(SystemExit):
        hpro_driver.set_label(str(path))
    assert "hpro-driver: potential: " in capsys.readouterr().err


def test_driver_names_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    values = {"potential": "VSC", "xml": "x.xml", "pseudos": "pseudo", "orbitals": "orbitals"}
    (tmp_path / "hpro.json").write_text(json.dumps(values))
    with pytest.raises(SystemExit):
        hpro_driver.main("hpro.json")
    assert capsys.readouterr().err == "hpro-driver: missing: VSC\n"
