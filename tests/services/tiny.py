"""The smallest dataset, network and pipeline that are still real: seconds of PySCF, seconds of training."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida import orm

from aiida_deeph.codes.pyscf.label import PyscfLabelWorkChain
from aiida_deeph.workflows.full import FullWorkChain
from aiida_deeph.workflows.train import TrainWorkChain


def hydrogen_chain(n_atoms: int = 4) -> orm.StructureData:
    """A dimerised chain of hydrogen along x."""
    node = orm.StructureData(cell=np.diag([n_atoms * 1.2, 8.0, 8.0]).tolist(), pbc=(True, False, False))
    for n in range(n_atoms):
        node.append_atom(symbols="H", position=(n * 1.2 + (0.1 if n % 2 else -0.1), 4.0, 4.0))
    return node


N_LABELS = 4
# What makes one run take a second or two.
NETWORK = {"irreps_embed": "8x0e", "irreps_mid": "8x0e+4x1o+4x2e", "lmax": 2, "n_blocks": 1, "n_gaussians": 16}
TRAINING = {
    "network": NETWORK,
    "epochs": 12,
    "batch_size": 2,
    "checkpoint_every": 1,
    "precision": "float64",
    "threads": 1,
    "split": {"train": 0.5, "validation": 0.25, "test": 0.25, "seed": 1},
}
# Takes fifteen seconds: time to do something to it while it runs.
LONG = {"epochs": 300}
SCF = {"basis": "gth-szv", "ke_cutoff": 20.0, "conv_tol": 1e-7, "threads": 1}
# SLURM's clock ticks in minutes.
WALLTIME = {"max_wallclock_seconds": 600}
# A training says in its working directory which GPU SLURM has given it.
GPU_FILE = "gpu.txt"
TRAIN_OPTIONS = {**WALLTIME, "gpus_per_node": 1, "prepend_text": f'echo "$CUDA_VISIBLE_DEVICES" > {GPU_FILE}'}


def tiny_overrides(n_labels: int = N_LABELS, seed: int = 1) -> dict[str, Any]:
    """Overrides of the whole pipeline that make it tiny."""
    options = {"metadata": {"options": WALLTIME}}
    return {
        "dataset": {
            "perturbation": {"n": n_labels, "seed": seed, "amplitude": 0.05},
            "label": {"kpoints": [3, 1, 1], "pair_cutoff": 5.0, "parameters": SCF, "options": WALLTIME},
            "preprocess": options,
            "max_concurrent": 2,
        },
        "train": {"train": {"parameters": TRAINING, "metadata": {"options": TRAIN_OPTIONS}}, "evaluate": options},
        "predict": {"overlap": options, "predict": options},
        "bands": {"bands": options},
    }


def pipeline_builder(engine: orm.InstalledCode, **options: Any) -> Any:
    """The whole pipeline: labels of a hydrogen chain, a network, H and bands of a chain twice as long."""
    return _builder(engine, options)


def validated_builder(engine: orm.InstalledCode, n_labels: int = N_LABELS, seed: int = 1, **options: Any) -> Any:
    """The whole pipeline with a validation structure, so that every kind of process takes part."""
    overrides = tiny_overrides(n_labels, seed)
    return _builder(engine, options, overrides=overrides, validation={"known": hydrogen_chain(6)})


def _builder(engine: orm.InstalledCode, options: dict[str, Any], **arguments: Any) -> Any:
    given = {"overrides": tiny_overrides(), **arguments}
    builder = FullWorkChain.get_builder_from_protocol(
        {"engine": engine, "dft": engine},
        {"chain": hydrogen_chain(4)},
        targets={"long": hydrogen_chain(8)},
        protocol="fast",
        options=options or None,
        **given,
    )
    if "dos" in builder.bands:
        del builder.bands["dos"]
    return builder


def label_builder(engine: orm.InstalledCode, **options: Any) -> Any:
    """One label."""
    overrides = {"kpoints": [1, 1, 1], "parameters": SCF, "options": {**WALLTIME, **options}}
    return PyscfLabelWorkChain.get_builder_from_protocol(
        engine, hydrogen_chain(2), protocol="fast", overrides=overrides
    )


def train_builder(
    engine: orm.InstalledCode,
    pipeline: orm.WorkChainNode,
    parameters: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    **further: Any,
) -> Any:
    """A training on the pipeline's dataset; by default the same one once more."""
    overrides = {
        "train": {
            "parameters": {**TRAINING, **(parameters or {})},
            "metadata": {"options": {**WALLTIME, **(options or {})}},
        },
        "evaluate": {"metadata": {"options": WALLTIME}},
        **further,
    }
    dataset, folder = pipeline.outputs.dataset, pipeline.outputs.dataset_folder
    return TrainWorkChain.get_builder_from_protocol(engine, dataset, folder, protocol="fast", overrides=overrides)


def weights(node: orm.ProcessNode) -> bytes:
    """The trained weights, byte by byte."""
    return node.outputs.model.base.repository.get_object_content("weights.safetensors", mode="rb")
