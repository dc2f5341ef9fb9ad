"""The record of OpenMX."""

from __future__ import annotations

from aiida_deeph.engine.dft.record import CodeRecord, Program, Release
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.convention import DEEPH_LEGACY

# System.Name: the names of all files of a run begin with it.
NAME = "openmx"

OPENMX = Release("3.9", r"3\.9", hartree=27.2113845, bohr=0.529177249)

RECORD = CodeRecord(
    name="openmx",
    title="OpenMX",
    releases=(OPENMX,),
    # The older DeepH folders have taken over this code's order.
    convention=DEEPH_LEGACY,
    spins=(SpinMode.NONE, SpinMode.COLLINEAR, SpinMode.NONCOLLINEAR),
    spin_orbit=True,
    reader="OpenmxReader",
    raw_files=(f"{NAME}.scfout", f"{NAME}.out"),
    plugin="deeph.openmx",
    programs=(Program("openmx", "OpenMX", "deeph.openmx", "--openmx-path", "openmx-2019"),),
    basis="pao",
    overlap="yes, `.pao`",
    bands=True,
    restart=True,
    verified="its band energies, all spin modes; S by integrals",
    not_supported="contracted orbitals without their files, empty atoms",
    citation="OpenMX: Ozaki, Phys. Rev. B 67, 155108 (2003), doi:10.1103/PhysRevB.67.155108",
)
