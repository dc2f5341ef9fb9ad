"""Deep-learning DFT Hamiltonians with full provenance in AiiDA; what is named in `__all__` is public, nothing else."""

from __future__ import annotations

import importlib
import sys
from typing import Any

# Of an installation that was copied to an older Python: pip refuses by itself.
if sys.version_info < (3, 11):  # noqa: UP036
    found = sys.version.split()[0]
    raise ImportError(f"aiida-deeph needs Python 3.11 or later, this is {found}: make a new environment")

__version__ = "0.2.0"

# Where each public name lives. It is imported when it is first used: a compute node has no AiiDA, a host no torch.
_HOMES = {
    # matrices, structures and their files
    "Structure": "engine.domain.structure",
    "OrbitalBasis": "engine.domain.basis",
    "SpinMode": "engine.domain.basis",
    "BlockSparseMatrix": "engine.domain.blocksparse",
    "RealSpaceHamiltonian": "engine.domain.hamiltonian",
    "pairs_within": "engine.domain.neighbours",
    "from_ase": "engine.io.structure",
    "to_ase": "engine.io.structure",
    "read_structure": "engine.io.folders",
    "write_structure": "engine.io.structure",
    "read_deeph": "engine.io.deeph",
    "write_deeph": "engine.io.deeph",
    "read_legacy": "engine.io.deeph_legacy",
    # output of DFT codes, overlaps, datasets
    "get_reader": "engine.dft.base",
    "PyscfConfig": "engine.dft.pyscf.config",
    "run_pyscf": "engine.dft.pyscf.runner",
    "one_step": "engine.dft.pyscf.one_step",
    "OverlapConfig": "engine.overlap.config",
    "run_overlap": "engine.overlap.run",
    "MemberSource": "engine.preprocess.config",
    "PreprocessConfig": "engine.preprocess.config",
    "run_preprocess": "engine.preprocess.run",
    # models
    "Network": "engine.nn.network",
    "NetworkConfig": "engine.nn.config",
    "register_network": "engine.nn.config",
    "DeepHE3Config": "engine.nn.deephe3.config",
    "ResidualDeepHE3Config": "engine.nn.deephe3.config",
    "SplitConfig": "engine.io.split",
    "CosineConfig": "engine.training.config",
    "TrainConfig": "engine.training.config",
    "train": "engine.training.run",
    "EvaluateConfig": "engine.training.config",
    "evaluate": "engine.training.evaluate",
    "PredictConfig": "engine.prediction.config",
    "predict": "engine.prediction.predict",
    # what follows from H and S
    "BandsConfig": "engine.observables.bands",
    "Bands": "engine.observables.bands",
    "DosConfig": "engine.observables.dos",
    "DensityOfStates": "engine.observables.dos",
    "LevelsConfig": "engine.observables.levels",
    "Levels": "engine.observables.levels",
    "new_figure": "engine.observables.figures",
    "draw_bands": "engine.observables.figures",
    "draw_curve": "engine.observables.figures",
    # inputs.yaml and what is submitted of it
    "load_config": "engine.config",
    "FullInputs": "cli.inputs",
    "PredictInputs": "cli.inputs",
    "TargetInputs": "cli.inputs",
    "full_builder": "cli.builders",
    "predict_builder": "cli.target_builders",
    "target_builder": "cli.target_builders",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
