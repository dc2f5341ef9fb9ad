"""The record of FHI-aims."""

from __future__ import annotations

from aiida_deeph.engine.dft.record import CodeRecord, Release
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.convention import OrbitalConvention

RECORD = CodeRecord(
    name="aims",
    title="FHI-aims",
    # With this Hartree it converts its own eigenvalues.
    releases=(Release("with `output_rs_matrices`", "", hartree=27.2113845),),
    convention=OrbitalConvention(negated="odd_positive"),
    spins=(SpinMode.NONE, SpinMode.COLLINEAR),
    reader="AimsReader",
    verified="not on a run of ours; see below",
    not_supported="spin-orbit coupling, molecules, relaxations",
    citation="FHI-aims: Blum et al., Comput. Phys. Commun. 180, 2175 (2009), doi:10.1016/j.cpc.2009.06.022",
)
