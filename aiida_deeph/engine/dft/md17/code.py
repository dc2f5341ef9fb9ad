"""The record of the MD17 Hamiltonians."""

from __future__ import annotations

from aiida_deeph.engine.dft.record import CodeRecord, Release
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.convention import OrbitalConvention

RECORD = CodeRecord(
    name="md17",
    title="MD17 Hamiltonians",
    releases=(Release("of SchNOrb", ""),),
    # ORCA's, without the signs of f(+-3), which do not occur.
    convention=OrbitalConvention("alternating"),
    spins=(SpinMode.NONE,),
    reader="Md17Reader",
    splits=("published",),
    verified="files of the same layout",
    not_supported="aspirin, whose orbitals are QUAMBOs; ethanol by HF",
    citation="MD17 Hamiltonians: Schütt et al., Nat. Commun. 10, 5024 (2019), doi:10.1038/s41467-019-12875-2",
)
