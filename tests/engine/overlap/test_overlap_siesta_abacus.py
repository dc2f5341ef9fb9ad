"""Overlaps in SIESTA's and ABACUS's orbitals against those that the codes wrote, and their files of orbitals."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from aiida_deeph.engine.cli.overlap import command
from aiida_deeph.engine.dft.abacus.reader import AbacusReader
from aiida_deeph.engine.dft.siesta.reader import SiestaReader
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.deeph import read_deeph
from aiida_deeph.engine.orbitals.ion import load_ion, read_ion, read_ion_xml
from aiida_deeph.engine.orbitals.orb import load_orb, read_orb
from aiida_deeph.engine.overlap.basis import load_numeric
from aiida_deeph.engine.overlap.radial import NumericOverlap

FIXTURES = Path(__file__).parents[2] / "fixtures"


def unpacked(code: str, name: str, folder: Path) -> Path:
    with tarfile.open(FIXTURES / code / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / name


def siesta_run(name: str, folder: Path) -> Path:
    run = unpacked("siesta", name, folder)
    (run / "variants" / "v2.HSX").rename(run / f"{next(run.glob('*.fdf')).stem}.HSX")
    return run


def difference(data: RealSpaceHamiltonian, spec: str, orbitals: dict[str, str] | None) -> tuple[float, float]:
    """Largest difference from the code's own S, between sites and on site; shells and electrons agree."""
    basis = load_numeric(spec, orbitals, data.structure.elements, Path())
    assert basis.orbital_basis.shells == data.basis.shells
    assert basis.n_electrons(data.structure.symbols) == pytest.approx(data.n_electrons)
    pairs = data.overlap.atom_pairs
    S = NumericOverlap(basis).overlap(data.structure, pairs)
    found = np.abs(S.entries - data.overlap.entries)
    on_site = ((pairs[:, 3] == pairs[:, 4]) & ~pairs[:, :3].any(axis=1))[S.pair_of_entry]
    return float(found[~on_site].max()), float(found[on_site].max())


@pytest.mark.parametrize("name", ["graphene", "si", "fe", "ptsi_dimer1"])
def test_equals_siesta(tmp_path: Path, name: str) -> None:
    """Every entry, s to f: order and signs of the orbitals and the direction of R are proven with it."""
    run = siesta_run(name, tmp_path)
    between, on_site = difference(SiestaReader().read(run), f"siesta:{run}", None)
    assert between < 5e-6 and on_site < 2e-6  # 3e-6 and 1.3e-6 found


@pytest.mark.parametrize(
    ("name", "part"), [("graphene", "scf"), ("fe_nspin2", "scf"), ("gaas_soc_mag", "scf"), ("dimer_FeC", "b")]
)
def test_equals_abacus(shared: Path, tmp_path: Path, name: str, part: str) -> None:
    """Every entry, s to f."""
    folder = shared / "reference" / "abacus-data"
    if not folder.is_dir():
        pytest.skip("no reference/abacus-data beside the fixtures")
    run = unpacked("abacus", name, tmp_path)
    if (run / "STRU").exists():
        (run / "STRU").rename(run / part / "STRU")
    orbitals = {"Ga": "Ga_dojo_6au", "As": "As_dojo_6au.orb"} if name.startswith("gaas") else None
    between, on_site = difference(AbacusReader().read(run / part), f"abacus:{folder}", orbitals)
    assert between < 1e-7 and on_site < 5e-6  # 5e-8 and 2.9e-6 found


def test_ion_files(tmp_path: Path) -> None:
    run = unpacked("siesta", "ptsi_dimer1", tmp_path)
    text = (run / "Si.ion.xml").read_text()
    shells, valence = load_ion("Si", run, None)
    assert [shell.l for shell in shells] == [0, 1, 3, 2] and valence == 4
    for shell in shells:
        r = np.linspace(0, shell.extent, 4001)
        assert np.sum((r * shell.at(r)) ** 2) * r[1] == pytest.approx(1, abs=1e-5)
    plain = [
        "<preamble>",
        "1 2 3",
        "</preamble>",
        "Si # Symbol",
        "Si # Label",
        "14 # Z",
        "4.0 # Valence",
        "28.1",
        "0.0",
    ]
    plain += ["3 4 # Lmax for basis, no. of nl orbitals", "2 3 # Lmax for projectors", "# PAOs:____"]
    for shell in shells:
        plain += [f" {shell.l} 3 1 0 1.0 #orbital l, n, z", f" {len(shell.r)} 0.01 5.0 # npts, delta, cutoff"]
        tables = np.column_stack([shell.r, shell.values / np.where(shell.r > 0, shell.r, 1) ** shell.l])
        tables[0, 1] = tables[1, 1]
        plain += [f"{a:.12e} {b:.12e}" for a, b in tables]
    plain += ["# KBs:____", "0 1 2.0 #kb l, n, Ekb"]
    element, valence, others = read_ion("\n".join(plain), "x")
    assert (element, valence) == ("Si", 4.0)
    for one, other in zip(shells, others, strict=True):
        assert one.l == other.l and other.values[1:] == pytest.approx(one.values[1:], abs=1e-10)
    (run / "Si.ion.xml").unlink()
    (run / "Si.ion").write_text("\n".join(plain))
    assert len(load_ion("Si", run, None)[0]) == 4
    with pytest.raises(InputError, match=r"no such file of orbitals.*C\.ion\.xml"):
        load_ion("C", run, None)
    with pytest.raises(InputError, match="orbitals of another element"):
        load_ion("C", run, "Pt")
    for wrong in ("", "text", text[: len(text) // 2], text.replace("<npts>                       500", "<npts> 499")):
        with pytest.raises(DataError, match="damaged"):
            read_ion_xml(wrong, "x")
    for wrong in ("", "\n".join(plain[:40])):
        with pytest.raises(DataError, match="damaged"):
            read_ion(wrong, "x")


def orb_text(element: str, functions: dict[int, list[float]], radius: float = 6.0) -> str:
    """A `.orb` of normalised r^l exp(-a r^2) (1 - (r / radius)^2)^2."""
    r = np.arange(round(radius / 0.01) + 1) * 0.01
    lines = [f"Element          {element}", f"Lmax  {max(functions)}", "SUMMARY  END", f"Mesh  {len(r)}", "dr   0.01"]
    for l, exponents in functions.items():
        for n, a in enumerate(exponents):
            values = r**l * np.exp(-a * r**2) * (1 - (r / radius) ** 2) ** 2
            values /= np.sqrt(np.sum((r * values) ** 2) * 0.01)
            lines += ["    Type     L     N", f"  0  {l}  {n}", *(f"{v:.14e}" for v in values)]
    return "\n".join(lines) + "\n"


def test_orb_files(tmp_path: Path) -> None:
    (tmp_path / "C_6au_2s1p.orb").write_text(orb_text("C", {0: [0.4, 1.1], 1: [0.5]}))
    (tmp_path / "C.upf").write_text('<PP_HEADER z_valence="   4.00"/>')
    (tmp_path / "Ca.upf").write_text('<PP_HEADER z_valence="   10.00"/>')
    shells, valence = load_orb("C", tmp_path, None)
    assert [shell.l for shell in shells] == [0, 0, 1] and valence == 4
    assert load_orb("C", tmp_path, "C_6au_2s1p")[1] == load_orb("C", tmp_path, "C_6au_2s1p.orb")[1]
    (tmp_path / "C_old.UPF").write_text("  5.00000   Z valence\n")
    assert load_orb("C", tmp_path, None)[1] is None
    (tmp_path / "C_7au.orb").write_text(orb_text("C", {0: [0.4]}, 7.0))
    with pytest.raises(InputError, match=r"several files.*C_6au_2s1p\.orb, C_7au\.orb.*C=FILE"):
        load_orb("C", tmp_path, None)
    with pytest.raises(InputError, match="no such file"):
        load_orb("H", tmp_path, None)
    with pytest.raises(InputError, match="of another element"):
        load_orb("H", tmp_path, "C_7au")
    text = orb_text("C", {0: [0.4], 1: [0.5]})
    for wrong in ("text", text.replace("Mesh", "Mash"), text.replace("Mesh  601", "Mesh  600"), text[:-500] + "x"):
        with pytest.raises(DataError, match="orbitals"):
            read_orb(wrong, "x")
    with pytest.raises(DataError, match="not in the order of their l"):
        read_orb(orb_text("C", {1: [0.4], 0: [0.5]}), "x")


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "C_6au.orb").write_text(orb_text("C", {0: [0.4, 1.1], 1: [0.5]}))
    structure = '2\nLattice="2.46 0 0 -1.23 2.1304 0 0 0 14" pbc="T T T"\nC 0 0 7\nC 0 1.4203 7\n'
    (tmp_path / "s.xyz").write_text(structure)
    run = siesta_run("graphene", tmp_path)
    for spec, shells in (("abacus:.", (0, 0, 1)), (f"siesta:{run.name}", (0, 0, 1, 1, 2))):
        arguments = ["--basis", spec, "--structure", "s.xyz", "--output", "S"]
        assert CliRunner().invoke(command, arguments, catch_exceptions=False).exit_code == 0
        data = read_deeph(tmp_path / "S")
        assert data.basis.shells == {"C": shells} and data.metadata["basis"] == {"C": f"{spec.partition(':')[0]}:C"}
        assert data.overlap.block((0, 0, 0), 0, 1)[0, 0] > 0.1
    config = {"structure": "s.xyz", "basis": {"C": "abacus:.:C_6au"}, "output": "T"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert CliRunner().invoke(command, ["config.json"], catch_exceptions=False).exit_code == 0
    assert read_deeph(tmp_path / "T").metadata["basis"] == {"C": "abacus:C_6au"}
