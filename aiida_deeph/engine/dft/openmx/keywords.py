"""Which keywords of OpenMX's input the user may set, and which follow from other inputs."""

from __future__ import annotations

from collections.abc import Mapping

from aiida_deeph.engine.dft.keywords import Check, KeywordTable, integer, lines, logical, number, one_of, several

# Keyword (or its beginning, up to a dot) in lower case -> what decides it.
OWNED: Mapping[str, str] = {
    "system.": "the plugin",
    "data.path": "the plugin",
    "level.of.stdout": "the plugin",
    "hs.fileout": "the plugin: H(R) and S(R) are always written",
    "md.": "the plugin: one geometry, no dynamics",
    "geoopt.": "the plugin: one geometry",
    "species.": "the inputs basis, orbitals and pseudos",
    "definition.of.atomic.species": "the inputs basis, orbitals and pseudos",
    "atoms.": "the input structure",
    "scf.kgrid": "the input kpoints",
    "scf.eigenvaluesolver": "the plugin: `band`, whose H(R) is complete",
    "scf.spinpolarization": "the input spin",
    "scf.spinorbit.coupling": "the input spin",
    "scf.restart": "the input restart_folder",
    "scf.restart.filename": "the input restart_folder",
    "band.": "the input bands_kpoints",
}

_logical, _block = logical("on", "off"), lines("<>")
_positive, _share, _real = number(0, strict=True), number(0), number()
_MIXING = ("Simple", "Rmm-Diis", "Gr-Pulay", "Kerker", "Rmm-Diisk", "Rmm-Diisv", "Rmm-Diish")

# Keyword as OpenMX's manual spells it -> how its value is checked and written.
KEYWORDS: Mapping[str, Check] = {
    "scf.XcType": one_of("LDA", "LSDA-CA", "LSDA-PW", "GGA-PBE"),
    "scf.partialCoreCorrection": _logical,
    "scf.ElectronicTemperature": _share,
    "scf.energycutoff": _positive,
    "scf.Ngrid": several(3, integer(1)),
    "scf.fixed.grid": several(3, _real),
    "scf.maxIter": integer(1),
    "scf.criterion": _positive,
    "scf.Mixing.Type": one_of(*_MIXING),
    "scf.Init.Mixing.Weight": _positive,
    "scf.Min.Mixing.Weight": _positive,
    "scf.Max.Mixing.Weight": _positive,
    "scf.Mixing.History": integer(1),
    "scf.Mixing.StartPulay": integer(1),
    "scf.Mixing.EveryPulay": integer(1),
    "scf.Mixing.Control.Temp": _logical,
    "scf.Kerker.factor": _positive,
    "scf.system.charge": _real,
    "scf.Electric.Field": several(3, _real),
    "scf.ProExpn.VNA": _logical,
    "scf.BufferL.VNA": integer(0),
    "scf.RadialF.VNA": integer(1),
    "scf.SO.factor": _block,
    "scf.Hubbard.U": _logical,
    "scf.Hubbard.Occupation": one_of("dual", "onsite", "full"),
    "scf.DFTU.Type": integer(1),
    "scf.dc.Type": one_of("sFLL", "sAMF", "cFLL", "cAMF"),
    "scf.Slater.Ratio": _positive,
    "scf.Yukawa": _logical,
    "Hubbard.U.values": _block,
    "Hund.J.values": _block,
    "scf.dftD": _logical,
    "version.dftD": integer(2),
    "DFTD.Unit": one_of("Ang", "AU"),
    "DFTD.rcut_dftD": _positive,
    "DFTD.cncut_dftD": _positive,
    "DFTD.damp": one_of("zero", "bj"),
    "DFTD.IntDirection": several(3, integer(0)),
    "ESM.switch": one_of("off", "on1", "on2", "on3", "on4"),
    "ESM.buffer.range": _positive,
    "ESM.potential.diff": _real,
    "scf.stress.tensor": _logical,
    "1DFFT.EnergyCutoff": _positive,
    "1DFFT.NumGridK": integer(1),
    "1DFFT.NumGridR": integer(1),
    "Dos.fileout": _logical,
    "Dos.Erange": several(2, _real),
    "Dos.Kgrid": several(3, integer(1)),
    "Voronoi.charge": _logical,
    "Energy.Decomposition": _logical,
    "memory.usage.fileout": _logical,
    "level.of.fileout": integer(0),
}
TABLE = KeywordTable(KEYWORDS, OWNED)


def is_block(name: str) -> bool:
    """Whether a keyword is written as `<name ... name>`."""
    return KEYWORDS[name] is _block
