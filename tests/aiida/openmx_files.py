"""Files of orbitals and pseudopotentials that look like OpenMX's own; the functions are made up."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from aiida import orm
from aiida.plugins import DataFactory, GroupFactory
from ase.data import atomic_numbers
from scipy.integrate import trapezoid

from aiida_deeph.data.pao import PaoFamily

FAMILY = "openmx-2019"
VALENCES = {"H": 1.0, "C": 4.0, "S": 6.0, "Fe": 16.0, "Mo": 14.0, "Bi": 15.0}


def pao_text(name: str, l_max: int = 2, count: int = 3, points: int = 120) -> str:
    """Text of `NAME.pao`: functions r^l exp(-a r^2) that vanish at the radius in the name."""
    element, radius = split(name)
    x = np.linspace(-7.0, np.log(radius), points)
    r = np.exp(x)
    lines = [
        f"AtomSpecies {atomic_numbers[element]}",
        f"valence.electron {VALENCES[element]}",
        f"radial.cutoff.pao {radius} # Bohr",
        f"PAO.Lmax {l_max}",
        f"PAO.Mul {count}",
    ]
    for l in range(l_max + 1):
        functions = [r**l * np.exp(-(0.3 + 0.4 * n) * r**2) * (1 - (r / radius) ** 2) ** 2 for n in range(count)]
        functions = [f / np.sqrt(trapezoid(f**2 * r**2, r)) for f in functions]
        lines.append(f"<pseudo.atomic.orbitals.L={l}")
        lines += [" ".join(f"{value:.12e}" for value in row) for row in np.array([x, r, *functions]).T]
        lines.append(f"pseudo.atomic.orbitals.L={l}>")
    return "\n".join(lines) + "\n"


def vps_text(element: str) -> str:
    """Head of a `.vps` file of the element, generated for PBE."""
    return f"xc.type GGA\nAtomSpecies {atomic_numbers[element]}\nvalence.electron {VALENCES[element]}\n"


def split(name: str) -> tuple[str, float]:
    """`Fe5.5H` -> Fe, 5.5."""
    element = name.rstrip("0123456789.HS_") or name[0]
    element = element if element in VALENCES else name[0]
    return element, float(name[len(element) :].rstrip("HS"))


def pao(name: str) -> orm.SinglefileData:
    """Node of `NAME.pao`."""
    return DataFactory("deeph.pao")(io.BytesIO(pao_text(name).encode()), filename=f"{name}.pao")


def vps(name: str) -> orm.SinglefileData:
    """Node of `NAME.vps`, e.g. of C_PBE19."""
    text = vps_text(name.split("_")[0])
    return DataFactory("pseudo.vps")(io.BytesIO(text.encode()), filename=f"{name}.vps")


def install_families(folder: Path, orbitals: tuple[str, ...], pseudos: tuple[str, ...], label: str = FAMILY) -> None:
    """Families of both kinds, unless they are there."""
    if not PaoFamily.collection.count(filters={"label": label}):
        folder.mkdir(parents=True, exist_ok=True)
        for name in orbitals:
            (folder / f"{name}.pao").write_text(pao_text(name))
        PaoFamily.create_from_folder(folder, label)
    kind = GroupFactory("pseudo.family")
    if not kind.collection.count(filters={"label": label}):
        family = kind(label=label).store()
        family.add_nodes([vps(name).store() for name in pseudos])
