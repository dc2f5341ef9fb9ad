"""Initial and converged moments as the programs state them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aiida_deeph.engine.dft.abacus.stru import read_stru
from aiida_deeph.engine.dft.aims.geometry_files import read_moments
from aiida_deeph.engine.dft.base import get_reader
from aiida_deeph.engine.dft.openmx.input_file import parse_input
from aiida_deeph.engine.dft.pyscf.config import PyscfConfig
from aiida_deeph.engine.dft.pyscf.magnets import fixed_occupations
from aiida_deeph.engine.dft.pyscf.runner import run_pyscf
from aiida_deeph.engine.dft.siesta.output import parse_output
from aiida_deeph.engine.errors import DataError, InputError

Unpack = Callable[..., Path]


def test_openmx(openmx_run: Unpack) -> None:
    moments = get_reader("openmx").read(openmx_run("fe_collinear")).moments
    np.testing.assert_allclose(moments.nominal, [[0, 0, 2.0]])
    np.testing.assert_allclose(moments.converged, [[0, 0, 2.320723629]])
    assert get_reader("openmx").read(openmx_run("graphene")).moments is None


def test_openmx_directions() -> None:
    rows = "1 Fe 0 0 0 9.0 7.0 90.0 180.0 0 0 0 off\n2 Fe 1 0 0 7.0 9.0 0.0 0.0 0 0 0 off"
    block = f"<Atoms.SpeciesAndCoordinates\n{rows}\nAtoms.SpeciesAndCoordinates>\n"
    found = parse_input(f"scf.SpinPolarization nc\n{block}").moments()
    np.testing.assert_allclose(found, [[-2, 0, 0], [0, 0, -2]], atol=1e-12)
    assert parse_input(f"scf.SpinPolarization off\n{block}").moments() is None


def test_siesta(siesta_run: Unpack) -> None:
    assert get_reader("siesta").read(siesta_run("fe", "v2.HSX")).moments is None, "`+` is the largest, not a number"
    theta, phi = np.radians([50.0, 35.0])
    expected = 2.3 * np.array([[np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)]])
    np.testing.assert_allclose(
        get_reader("siesta").read(siesta_run("fenc", "TSHS")).moments.nominal, expected, atol=1e-12
    )
    assert get_reader("siesta").read(siesta_run("si", "v2.HSX")).moments is None
    assert parse_output("%block DM.InitSpin\n 1 +\n%endblock DM.InitSpin\n").initial_moments is None


def test_abacus(abacus_run: Unpack) -> None:
    moments = get_reader("abacus").read(abacus_run("fe_nspin2", "scf")).moments
    np.testing.assert_allclose(moments.nominal, [[0, 0, 3.0]])
    assert get_reader("abacus").read(abacus_run("graphene", "scf")).moments is None


def test_abacus_moments_of_atoms(tmp_path: Path) -> None:
    atoms = "0 0 0 1 1 1 mag 2.0\n0.5 0 0 0 0 0 mag 1.0 2.0 3.0\n0.5 0.5 0 mag 2.0 angle1 90 angle2 90\n0 0.5 0 1 1 1\n"
    text = "ATOMIC_SPECIES\nFe 55.8 Fe.upf\nLATTICE_CONSTANT\n5.0\nLATTICE_VECTORS\n1 0 0\n0 1 0\n0 0 1\n"
    (tmp_path / "STRU").write_text(f"{text}ATOMIC_POSITIONS\nDirect\nFe\n-1.5\n4\n{atoms}")
    expected = [[0, 0, 2], [1, 2, 3], [0, 2, 0], [0, 0, -1.5]]
    np.testing.assert_allclose(read_stru(tmp_path / "STRU").moments, expected, atol=1e-12)


def test_aims(tmp_path: Path) -> None:
    path = tmp_path / "geometry.in"
    path.write_text(
        "atom 0 0 0 Fe\n  initial_moment 2.5\natom_frac 0.5 0.5 0.5 O\natom 1 1 1 Fe\ninitial_moment -2.5\n"
    )
    np.testing.assert_array_equal(read_moments(path).signs, [1, 0, -1])
    path.write_text("atom 0 0 0 Fe\n")
    assert read_moments(path) is None
    path.write_text("atom 0 0 0 Fe\ninitial_moment up\n")
    with pytest.raises(DataError, match=r"geometry.in is damaged"):
        read_moments(path)


def test_cp2k(cp2k_run: Unpack) -> None:
    folder = cp2k_run("nh_chain_unrestricted")
    moments = get_reader("cp2k").read(folder).moments
    assert moments.nominal is None
    np.testing.assert_allclose(moments.converged[:, 2], [2.049736, -0.049736])
    text = (folder / "aiida.inp").read_text()
    kind = next(line for line in text.splitlines() if line.split()[:2] == ["&KIND", "N"])
    (folder / "aiida.inp").write_text(text.replace(kind, f"{kind}\n MAGNETIZATION 2.0"))
    np.testing.assert_allclose(get_reader("cp2k").read(folder).moments.nominal[:, 2], [2.0, 0.0])


CHAIN = (
    '2\nLattice="5.0 0 0 0 5.0 0 0 0 5.0" Properties=species:S:1:pos:R:3 pbc="T T T"\nH 0.1 0.0 0.0\nH 2.6 0.0 0.0\n'
)


@pytest.mark.parametrize(("sign", "smearing"), [(-1.0, None), (1.0, 0.01)])
def test_pyscf_starts_and_stays_in_the_state(sign: float, smearing: float | None, tmp_path: Path) -> None:
    """Hydrogen atoms far apart: whatever the order, a moment on each, and equal levels by flip of the spins."""
    (tmp_path / "structure.xyz").write_text(CHAIN)
    options = {
        "kmesh": (3, 1, 1),
        "ke_cutoff": 15.0,
        "smearing": smearing,
        "bands": ((0.0, 0.0, 0.0), (0.25, 0.0, 0.0)),
    }
    results = run_pyscf(PyscfConfig(magnetic_moments=(1.0, sign), **options), tmp_path, lambda line: None)
    assert results["converged"]
    assert results["total_spin_moment"] == pytest.approx(1.0 + sign, abs=0.02)
    data = get_reader("pyscf").read(tmp_path)
    np.testing.assert_allclose(data.moments.nominal[:, 2], [1.0, sign])
    assert abs(data.moments.converged[0, 2]) > 0.8 and data.moments.state_kept()[0].passed
    assert data.moments.order == ("ferromagnetic" if sign > 0 else "antiferromagnetic")
    expected = np.array(results["bands"]["energies"])
    assert expected.shape == (2, 2, 2)
    for k, wanted in zip(results["bands"]["kpoints"], expected.transpose(1, 0, 2), strict=True):
        H, S = data.hamiltonian_at(k).toarray(), data.overlap_at(k).toarray()
        found = np.linalg.eigvals(np.linalg.solve(S, H)).real
        np.testing.assert_allclose(np.sort(found), np.sort(wanted.ravel()), atol=5e-3)
    up, down = (data.hamiltonian.block((0, 0, 0), 0, 0)[n, n].real for n in (0, 1))
    assert up < down - 1.0, "the spin of the moment is the lower one"


def test_pyscf_refuses_moments_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "structure.xyz").write_text(CHAIN)
    for moments, message in (((1.0,), "another number of atoms"), ((2.0, 0.0), "exceeds the valence")):
        with pytest.raises(InputError, match=message):
            run_pyscf(PyscfConfig(magnetic_moments=moments, ke_cutoff=15.0), tmp_path, lambda line: None)
    assert fixed_occupations(10, [1.0, -1.0], 3) == (15, 15)
    assert fixed_occupations(11, [1.0], 2) == (12, 10)
    for n, given in ((10, [1.0]), (10, [0.5])):
        with pytest.raises(InputError, match="net moment does not fit the electrons"):
            fixed_occupations(n, given, 1)
