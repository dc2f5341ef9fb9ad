"""SIESTA: files that are cut off, damaged, of other versions or of other runs, and must not be misread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aiida_deeph.engine.dft.siesta.code import RECORD, SIESTA_4, SIESTA_5
from aiida_deeph.engine.dft.siesta.energy_files import parse_bands
from aiida_deeph.engine.dft.siesta.geometry_files import read_orbital_index, read_xv
from aiida_deeph.engine.dft.siesta.hsx import read_hsx
from aiida_deeph.engine.dft.siesta.output import read_output
from aiida_deeph.engine.dft.siesta.reader import SiestaReader
from aiida_deeph.engine.dft.siesta.tshs import read_tshs
from aiida_deeph.engine.errors import DataError, DeepHError, InputError

Unpack = Callable[..., Path]


def reader_of(variant: str) -> Callable[[Path], object]:
    return read_tshs if variant == "TSHS" else read_hsx


@pytest.mark.parametrize("share", [0.0, 1e-4, 0.001, 0.02, 0.1, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("variant", ["v0.HSX", "v2.HSX", "TSHS"])
def test_truncated_file(siesta_run: Unpack, variant: str, share: float) -> None:
    path = siesta_run("fenc") / "variants" / variant
    content = path.read_bytes()
    path.write_bytes(content[: min(int(share * len(content)), len(content) - 1)])
    with pytest.raises(DeepHError, match=r"truncated|not a sequential"):
        reader_of(variant)(path)


@pytest.mark.parametrize("variant", ["v0.HSX", "v2.HSX", "TSHS"])
def test_bytes_out_of_place(siesta_run: Unpack, variant: str) -> None:
    path = siesta_run("fenc") / "variants" / variant
    content = path.read_bytes()
    for place in (30, 1000, 30_000, len(content) - 2000):
        for changed in (content[:place] + bytes(4) + content[place:], content[:place] + content[place + 4 :]):
            path.write_bytes(changed)
            with pytest.raises(DeepHError, match=r"damaged|truncated|inconsistent|unknown"):
                reader_of(variant)(path)


def test_layouts_that_are_not_known(siesta_run: Unpack) -> None:
    folder = siesta_run("fenc", "v2.HSX", "TSHS")
    for name, read in (("fenc.HSX", read_hsx), ("fenc.TSHS", read_tshs)):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:4] + (3).to_bytes(4, "little") + content[8:])
        with pytest.raises(InputError, match="3"):
            read(folder / name)
        (folder / name).write_bytes(b"something else, as long as it takes")
        with pytest.raises(InputError, match="not a sequential Fortran file"):
            read(folder / name)


def test_layout_2_that_is_called_1(siesta_run: Unpack) -> None:
    folder = siesta_run("fenc", "v2.HSX")
    content = (folder / "fenc.HSX").read_bytes()
    (folder / "fenc.HSX").write_bytes(content[:4] + (1).to_bytes(4, "little") + content[8:])
    data, reference = SiestaReader().read(folder), SiestaReader().read(siesta_run("fenc", "TSHS"))
    assert np.array_equal(data.hamiltonian.entries, reference.hamiltonian.entries)


def test_not_converged(siesta_run: Unpack) -> None:
    folder = siesta_run("si", "v2.HSX")
    path = folder / "si.out"
    path.write_text(path.read_text().replace("SCF cycle converged after", "SCF cycle gave up after"))
    with pytest.raises(DataError, match="did not converge"):
        SiestaReader().read(folder)


@pytest.mark.parametrize(
    ("version", "units"),
    [
        ("4.1.5", SIESTA_4),
        ("v4.1-b4", SIESTA_4),
        ("siesta-4.1--735", SIESTA_4),
        ("MaX-1.3.1", SIESTA_4),
        ("5.2.0", SIESTA_5),
        ("5.0.0-beta1", SIESTA_5),
        ("4.0.2", None),
        ("trunk-614", None),
        ("6.0.0", None),
        ("3.2", None),
    ],
)
def test_versions(siesta_run: Unpack, version: str, units: object) -> None:
    path = siesta_run("si") / "si.out"
    text = path.read_text()
    head = "Siesta Version  : master-post-4.1-268"
    for new in (f"Siesta Version  : {version}", f"Executable      : siesta\nVersion         : {version}"):
        path.write_text(text.replace(head, new))
        if units is None:
            with pytest.raises(InputError, match=f"version of SIESTA is not known.*found {version}"):
                read_output(path)
        else:
            output = read_output(path)
            assert output.version == version and RECORD.release(version, path) is units


def test_files_of_different_runs(siesta_run: Unpack) -> None:
    folder, other = siesta_run("si", "v2.HSX"), siesta_run("graphene", "v0.HSX")
    for path in other.glob("graphene.*"):
        path.rename(path.with_name(f"si{path.suffix}"))
    output = (folder / "si.out").read_text()
    (folder / "si.out").write_text((other / "si.out").read_text())
    with pytest.raises(DataError, match=r"different runs.*Fermi level"):
        SiestaReader().read(folder)
    (folder / "si.out").write_text(output)
    (folder / "si.HSX").unlink()
    (folder / "si.HSX").write_bytes((other / "si.HSX").read_bytes())
    with pytest.raises(DataError, match="geometry does not fit the matrices"):
        SiestaReader().read(folder)
    (folder / "si.XV").unlink()
    with pytest.raises(InputError, match=r"geometry is missing.*si\.XV"):
        SiestaReader().read(folder)
    (folder / "copy.HSX").write_bytes(b"")
    with pytest.raises(InputError, match=r"several runs.*copy, si"):
        SiestaReader().read(folder)
    iron = siesta_run("fenc", "v0.HSX", "TSHS")
    (iron / "fenc.TSHS").write_bytes((siesta_run("si", "v2.HSX") / "si.HSX").read_bytes())
    with pytest.raises(InputError, match="version of the TSHS"):
        SiestaReader().read(iron)


def test_missing_files(siesta_run: Unpack, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no HSX or TSHS"):
        SiestaReader().read(tmp_path)
    folder = siesta_run("fenc", "TSHS")
    (folder / "fenc.XV").unlink()  # the label of the species names the element
    assert SiestaReader().read(folder).structure.symbols == ("Fe",)
    (folder / "fenc.ORB_INDX").unlink()
    with pytest.raises(InputError, match=r"shells are missing.*fenc\.ORB_INDX"):
        SiestaReader().read(folder)
    (folder / "fenc.out").rename(folder / "fenc.txt")
    assert read_output(folder / "fenc.txt").energy == pytest.approx(-779.603265)
    (folder / "second.out").write_text((folder / "fenc.txt").read_text())
    with pytest.raises(InputError, match=r"several outputs.*fenc\.txt, second\.out"):
        SiestaReader().read(folder)
    for path in (folder / "second.out", folder / "fenc.txt"):
        path.unlink()
    with pytest.raises(InputError, match="no output of SIESTA"):
        SiestaReader().read(folder)


def test_gamma_only(siesta_run: Unpack) -> None:
    """A dimer in a box is read; in a box that its orbitals bridge its matrix elements are sums over images."""
    folder = siesta_run("ptsi_dimer1", "v2.HSX")
    data = SiestaReader().read(folder)
    assert data.hamiltonian.atom_pairs.tolist() == [[0, 0, 0, i, j] for i in (0, 1) for j in (0, 1)]
    path = folder / "dimer.ORB_INDX"
    text = path.read_text()
    path.write_text(text.replace(" 6.271 ", "16.271 "))
    with pytest.raises(DataError, match="H is folded over R"):
        SiestaReader().read(folder)
    path.unlink()
    with pytest.raises(InputError, match=r"at Gamma.*LABEL.ORB_INDX"):
        SiestaReader().read(folder)


def test_atoms_without_nucleus(siesta_run: Unpack) -> None:
    folder = siesta_run("si", "v2.HSX")
    text = (folder / "si.XV").read_text()
    (folder / "si.XV").write_text(text.replace("  1    14", "  1   -14"))
    with pytest.raises(InputError, match=r"without nucleus.*atom 1"):
        SiestaReader().read(folder)


def test_text_files(siesta_run: Unpack, tmp_path: Path) -> None:
    folder = siesta_run("fe", "v2.HSX")
    index, xv = read_orbital_index(folder / "fe.ORB_INDX"), read_xv(folder / "fe.XV")
    assert index.ls.tolist() == [0, 0, *[2] * 10, 1, 1, 1] and index.ms[2:7].tolist() == [-2, -1, 0, 1, 2]
    assert index.labels == ("Fe",) * 15 and index.radii[0] > index.radii[2] > 3
    assert xv.atomic_numbers.tolist() == [26] and xv.positions.shape == (1, 3)
    bands = parse_bands((folder / "fe.bands").read_text())
    assert bands.energies.shape == (2, 4, 15) and bands.kpoints.shape == (4, 3)
    damaged = tmp_path / "damaged"
    for content in ("", "3\n", "1 2 3\n" * 3 + "2\n1 26 0 0 0 0 0 0\n"):
        damaged.write_text(content)
        with pytest.raises(DataError, match="XV file is damaged"):
            read_xv(damaged)
        with pytest.raises(DataError, match="ORB_INDX file is damaged"):
            read_orbital_index(damaged)
    text = (folder / "fe.bands").read_text()
    for wrong in ("", text[: len(text) // 2], "text"):
        with pytest.raises(DataError, match="band energies are damaged"):
            parse_bands(wrong)
