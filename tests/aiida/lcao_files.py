"""Files of orbitals and pseudopotentials that look like those of SIESTA and ABACUS; the functions are made up."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from aiida import orm
from aiida.plugins import DataFactory, GroupFactory

from aiida_deeph.data.pao import PaoFamily

FIXTURES = Path(__file__).parents[1] / "fixtures"
SIESTA_FAMILY = "PseudoDojo/0.4/PBE/SR/standard/psml"
ABACUS_FAMILY = "abacus-sg15"
VALENCES = {"H": 1, "C": 4, "Fe": 16, "Ga": 13, "As": 15}


def orb_text(element: str, ls: tuple[int, ...] = (0, 0, 1), radius: float = 6.0) -> str:
    """Text of an `.orb`: functions r^l exp(-a r^2) that vanish at the radius."""
    r = np.arange(0.0, radius + 1e-9, 0.05)
    lines = [
        f"Element                     {element}",
        f"Radius Cutoff(a.u.)         {radius:g}",
        f"Lmax                        {max(ls)}",
        "SUMMARY  END",
        f"Mesh                        {len(r)}",
        "dr                          0.05",
    ]
    for n, l in enumerate(ls):
        lines += ["                Type                   L                   N", f"   0   {l}   {n}"]
        values = r**l * np.exp(-(0.3 + 0.2 * n) * r**2) * (1 - (r / radius) ** 2) ** 2
        lines += [f"{value:.14e}" for value in values]
    return "\n".join(lines) + "\n"


def orb(name: str, *ls: int) -> orm.SinglefileData:
    """Node of `NAME.orb`, e.g. of C_gga_8au_100Ry_2s2p1d."""
    text = orb_text(name.split("_")[0], ls or (0, 0, 1))
    return DataFactory("deeph.pao")(io.BytesIO(text.encode()), filename=f"{name}.orb")


def upf(element: str, name: str | None = None) -> orm.SinglefileData:
    """Node of a UPF of an element."""
    text = f'<UPF version="2.0.1">\n<PP_HEADER\n element="{element}"\n z_valence="{VALENCES[element]}.0"\n/>\n</UPF>\n'
    return DataFactory("pseudo.upf")(io.BytesIO(text.encode()), filename=name or f"{element}.upf")


def psml(element: str) -> orm.SinglefileData:
    """Node of a PSML of an element."""
    text = f'<psml><pseudo-atom-spec atomic-label="{element}" z-pseudo="{VALENCES[element]}"/></psml>\n'
    return DataFactory("pseudo.psml")(io.BytesIO(text.encode()), filename=f"{element}.psml")


def psf(element: str) -> orm.SinglefileData:
    """Node of a PSF of an element."""
    return DataFactory("pseudo.psf")(io.BytesIO(f" {element}  pb nrl pcec\n".encode()), filename=f"{element}.psf")


def pseudo_family(label: str, nodes: list[orm.SinglefileData]) -> None:
    """A family of pseudopotentials, unless it is there."""
    kind = GroupFactory("pseudo.family")
    if not kind.collection.count(filters={"label": label}):
        kind(label=label).store().add_nodes([node.store() for node in nodes])


def install_families(folder: Path, elements: tuple[str, ...]) -> None:
    """The families that the protocols of SIESTA and ABACUS name, unless they are there."""
    pseudo_family(SIESTA_FAMILY, [psml(element) for element in elements])
    pseudo_family(ABACUS_FAMILY, [upf(element) for element in elements])
    if not PaoFamily.collection.count(filters={"label": ABACUS_FAMILY}):
        folder.mkdir(parents=True, exist_ok=True)
        for element in elements:
            (folder / f"{element}_gga_6au_2s1p.orb").write_text(orb_text(element))
            (folder / f"{element}_gga_6au_3s2p.orb").write_text(orb_text(element, (0, 0, 0, 1, 1)))
        PaoFamily.create_from_folder(folder, ABACUS_FAMILY)


def graphene(height: float = 14.0) -> orm.StructureData:
    """Two atoms of carbon."""
    cell = np.array([[2.46, 0, 0], [-1.23, 2.1304224933, 0], [0, 0, height]])
    node = orm.StructureData(cell=cell.tolist(), pbc=(True, True, False))
    for third in (1, 2):
        node.append_atom(symbols="C", position=(np.array([third / 3, 2 * third / 3 % 1, 0.5]) @ cell).tolist())
    return node


def iron() -> orm.StructureData:
    """The primitive cell of bcc iron."""
    node = orm.StructureData(cell=(1.435 * np.array([[1, 1, -1], [-1, 1, 1], [1, -1, 1]])).tolist())
    node.append_atom(symbols="Fe", position=(0.0, 0.0, 0.0))
    return node


def read_recorded(code: str, run: str, name: str) -> str:
    """Text of a file of a real run."""
    with tarfile.open(FIXTURES / code / f"{run}.tar.xz") as archive:
        return archive.extractfile(f"{run}/{name}").read().decode()


def unpack_recorded(code: str, run: str, folder: Path) -> Path:
    """The files of a real run, in a folder of its name."""
    with tarfile.open(FIXTURES / code / f"{run}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    for path in [folder / run, *(folder / run).rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder / run
