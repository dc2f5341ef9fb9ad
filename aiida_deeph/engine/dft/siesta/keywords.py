"""Which keywords of SIESTA's input (fdf) the user may set, and which follow from other inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aiida_deeph.engine.dft.keywords import (
    Check,
    KeywordTable,
    integer,
    lines,
    logical,
    number,
    one_of,
    quantity,
    word,
)

_PLUGIN = "the plugin"
# Keyword (or its beginning, up to a dot) -> what decides it.
OWNED: Mapping[str, str] = {
    "SystemName": _PLUGIN,
    "SystemLabel": _PLUGIN,
    "NumberOfAtoms": "the input structure",
    "NumberOfSpecies": "the input structure",
    "ChemicalSpeciesLabel": "the input structure",
    "AtomicCoordinates.": "the input structure",
    "Zmatrix": "the input structure",
    "Lattice.": "the input structure",
    "SuperCell": "the input structure",
    "kgrid.": "the input kpoints",
    "Band.": "the input bands_kpoints",
    "Spin": "the input spin",
    "SpinPolarized": "the input spin",
    "NonCollinearSpin": "the input spin",
    "DM.InitSpin.": "the input moments",
    "DM.UseSaveDM": "the input restart_folder",
    "PAO.Basis": "the input basis",
    "PAO.BasisSize": "the input basis",
    "PAO.BasisSizes": "the input basis",
    "SolutionMethod": f"{_PLUGIN}: `diagon`",
    "SaveHS": f"{_PLUGIN}: H(R) and S(R) are always written",
    "TS.": f"{_PLUGIN}: H(R) and S(R) are always written",
    "ForceAuxCell": f"{_PLUGIN}: H(R) is never folded",
    "SCF.MustConverge": f"{_PLUGIN}: an SCF that does not converge is no label",
    "MD.": f"{_PLUGIN}: one geometry, no dynamics",
    "Write.": _PLUGIN,
}

_logical, _block = logical("true", "false"), lines("%")
_positive, _share, _real = number(0, strict=True), number(0), number()
_energy = quantity("Ry", "eV", "meV", "Hartree")
_temperature = quantity("K", "Ry", "eV", "meV")

# Keyword as SIESTA's manual spells it -> how its value is checked and written.
KEYWORDS: Mapping[str, Check] = {
    "XC.Functional": one_of("LDA", "GGA", "VDW"),
    "XC.Authors": word,
    "MeshCutoff": _energy,
    "Mesh.Sizes": _block,
    "MeshSubDivisions": integer(1),
    "FilterCutoff": _energy,
    "FilterTol": _energy,
    "PAO.BasisType": one_of("split", "splitgauss", "nodes", "nonodes", "filteret"),
    "PAO.EnergyShift": _energy,
    "PAO.SplitNorm": _share,
    "PAO.SplitNormH": _share,
    "PAO.SplitTailNorm": _logical,
    "PAO.SplitValence.Legacy": _logical,
    "PAO.FixSplitTable": _logical,
    "PAO.SoftDefault": _logical,
    "PAO.SoftInnerRadius": _positive,
    "PAO.SoftPotential": _energy,
    "PAO.ContractionCutoff": _share,
    "PAO.OldStylePolOrbs": _logical,
    "PS.lmax": _block,
    "PS.KBprojectors": _block,
    "ElectronicTemperature": _temperature,
    "OccupationFunction": one_of("FD", "MP", "Cold"),
    "OccupationMPOrder": integer(1),
    "NetCharge": _real,
    "Spin.Fix": _logical,
    "Spin.Total": _real,
    "Spin.OrbitStrength": _share,
    "MaxSCFIterations": integer(1),
    "SCF.Mix": one_of("hamiltonian", "density", "charge"),
    "SCF.Mix.First": _logical,
    "SCF.Mixer.Method": one_of("pulay", "broyden", "linear"),
    "SCF.Mixer.Variant": word,
    "SCF.Mixer.Weight": _positive,
    "SCF.Mixer.History": integer(0),
    "SCF.Mixer.Kick": integer(1),
    "SCF.Mixer.Kick.Weight": _positive,
    "SCF.Mixer.Restart": integer(0),
    "SCF.Mixer.Linear.After": integer(0),
    "SCF.Mixer.Linear.After.Weight": _positive,
    "SCF.DM.Converge": _logical,
    "SCF.DM.Tolerance": _positive,
    "SCF.H.Converge": _logical,
    "SCF.H.Tolerance": _energy,
    "SCF.FreeE.Converge": _logical,
    "SCF.FreeE.Tolerance": _energy,
    "DM.Tolerance": _positive,
    "DFTU.Proj": _block,
    "DFTU.ProjectorGenerationMethod": integer(1),
    "DFTU.EnergyShift": _energy,
    "DFTU.PopTol": _positive,
    "DFTU.ThresholdTol": _positive,
    "LDAU.Proj": _block,
    "LDAU.ProjectorGenerationMethod": integer(1),
    "DFTD3": _logical,
    "MM.Grimme.S6": _positive,
    "SlabDipoleCorrection": _logical,
    "ExternalElectricField": _block,
    "SimulateDoping": _logical,
    "Diag.Algorithm": word,
    "Diag.ParallelOverK": _logical,
    "Diag.BlockSize": integer(1),
    "BlockSize": integer(1),
    "ProcessorY": integer(1),
}


def plain(name: str) -> str:
    """fdf's keywords are the same whatever their case, with or without dots, dashes and underscores."""
    return re.sub(r"[-_.]", "", name).lower()


TABLE = KeywordTable(KEYWORDS, OWNED, plain)


def is_block(name: str) -> bool:
    """Whether a keyword is written as `%block NAME ... %endblock NAME`."""
    return KEYWORDS[name] is _block
