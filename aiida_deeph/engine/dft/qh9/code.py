"""The record of QH9."""

from __future__ import annotations

from aiida_deeph.engine.dft.record import CodeRecord, Release
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.convention import LIBCINT

RECORD = CodeRecord(
    name="qh9",
    title="QH9",
    releases=(Release("QH9Stable, QH9Dynamic", ""),),
    convention=LIBCINT,
    spins=(SpinMode.NONE,),
    reader="Qh9Reader",
    splits=("random", "size_ood", "geometry", "mol"),
    verified="files of the same layout",
    not_supported="the LMDB made of it, which is pickled",
    citation="QH9: Yu et al., NeurIPS Datasets and Benchmarks (2023), doi:10.48550/arXiv.2306.09549",
)
