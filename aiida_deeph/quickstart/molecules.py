"""The steps of `aiida-deeph quickstart --molecules`: labels, a model, levels of an unseen molecule, faster SCFs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ProcessBuilder, calcfunction, submit
from aiida.plugins import WorkflowFactory
from ase.build import molecule
from rich.console import Console

from aiida_deeph.codes.registry import PREFIX, label_class
from aiida_deeph.data.structure import from_engine
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DeepHError
from aiida_deeph.engine.io.files import write_text_atomic
from aiida_deeph.engine.io.structure import from_ase
from aiida_deeph.processes.progress import Stage, follow, full_stages
from aiida_deeph.quickstart import profile
from aiida_deeph.quickstart.run import EXTRA, WORKERS, codes, identity_of, unfinished
from aiida_deeph.workflows.full import FullWorkChain

# Formulas of ase's geometries, by name.
MOLECULES = {"water": "H2O", "formaldehyde": "H2CO"}
# Displacements, Angstrom: half-width of those labelled, standard deviation of the unseen ones.
AMPLITUDE, UNSEEN = 0.05, 0.03
SEED = 11


@calcfunction
def displaced(structure: orm.StructureData, amplitude: orm.Float, seed: orm.Int) -> orm.StructureData:
    """The molecule with every atom moved a little.

    :param amplitude: standard deviation of each coordinate, Angstrom.
    """
    from aiida_deeph.data.structure import to_engine

    engine = to_engine(structure)
    moves = np.random.default_rng(seed.value).normal(scale=amplitude.value, size=engine.positions.shape)
    return from_engine(Structure(engine.symbols, engine.positions + moves, engine.cell, engine.pbc))


def builder_of(n_labels: int, engine: str) -> ProcessBuilder:
    """A FullWorkChain on displaced molecules, with one unseen geometry of each as a target and compared with DFT."""
    parents = {name: from_engine(from_ase(molecule(formula))) for name, formula in MOLECULES.items()}
    unseen = {
        f"{name}_unseen": displaced(parent, orm.Float(UNSEEN), orm.Int(SEED + n))
        for n, (name, parent) in enumerate(parents.items())
    }
    parameters = {
        "network": {"name": "closed-form"},
        "split": {"train": 0.75, "validation": 0.0, "test": 0.25, "seed": 42},
        "threads": 1,
        "device": "cpu",
    }
    overrides = {
        "dataset": {
            "perturbation": {"n": n_labels, "amplitude": AMPLITUDE, "seed": SEED},
            "label": {"parameters": {"threads": 1}},
        },
        "train": {"train": {"parameters": parameters}},
        "bands": {"dos": None},
    }
    builder = FullWorkChain.get_builder_from_protocol(
        codes=codes(engine),
        structures=parents,
        validation=unseen,
        protocol="fast",
        overrides=overrides,
        label=f"{PREFIX}{engine}",
    )
    builder.metadata.label = "quickstart of molecules"
    builder.metadata.description = f"{', '.join(MOLECULES)}: {n_labels} labels, unseen geometries predicted"
    return builder


def run(engine: str, n_labels: int, profile_name: str, folder: Path, console: Console) -> dict[str, Any]:
    """All of it; the profile is already loaded.

    :returns: what `summary.json` holds.
    :raises DeepHError: a process did not finish well.
    """
    start = time.perf_counter()
    name = identity_of(["molecules", engine, n_labels, AMPLITUDE, UNSEEN, SEED])
    job = label_class(f"{PREFIX}{engine}")._process_class.__name__
    with profile.daemon(WORKERS):
        full = unfinished(name)
        if full is None:
            full = submit(builder_of(n_labels, engine))
            full.base.extras.set(EXTRA, name)
        console.print(f"FullWorkChain<{full.pk}>")
        follow(full, full_stages(job, n_labels, 0, len(MOLECULES)), console)
        check(full, profile_name)
        scf = WorkflowFactory("deeph.accelerate").get_builder_from_protocol(
            full.inputs.train.train.code,
            dict(full.outputs.hamiltonian.items()),
            protocol="fast",
            overrides={"scf": {"parameters": full.inputs.dataset.label.parameters.get_dict()}},
        )
        accelerated = submit(scf)
        console.print(f"AccelerateWorkChain<{accelerated.pk}>")
        follow(accelerated, [Stage("SCF runs", (job,), 2 * len(MOLECULES))], console)
        check(accelerated, profile_name)
    summary = {
        **collected(full, accelerated.outputs.output_parameters.get_dict()),
        "wall_s": {"total": time.perf_counter() - start},
        "aiida_process_uuid": full.uuid,
        "commands": [
            f"aiida-deeph -p {profile_name} report {full.pk}",
            f"verdi -p {profile_name} process status {full.pk}",
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomic(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    return summary


def check(process: orm.WorkChainNode, profile_name: str) -> None:
    """Refuse a process that did not end well.

    :raises DeepHError: it did not.
    """
    if process.exit_status != 0:
        raise DeepHError(
            "the quickstart's process failed",
            where=f"{process.process_label}<{process.pk}>",
            found=process.exit_message or process.process_state.value,
            remedy=f"see `verdi -p {profile_name} process report {process.pk}`",
        )


def collected(full: orm.WorkChainNode, scf: dict[str, Any]) -> dict[str, Any]:
    """Errors of the test, levels of the unseen molecules beside those of DFT, cycles of the SCFs."""
    means = full.outputs.errors["mean_of_molecules"]
    compared = {name: node.get_dict() for name, node in full.outputs.comparison.items()}
    return {
        "n_labels": full.outputs.output_parameters["n_labels"],
        "n_test": means["n_members"],
        "hamiltonian_uHartree": means["hamiltonian_uHartree"],
        "occupied_levels_uHartree": means["occupied_levels_uHartree"],
        "gap_uHartree": means["gap_uHartree"],
        "levels_mae_meV": {name: values["band_mae_meV"] for name, values in compared.items()},
        "scf_cycles": {
            name: [one["cycles_minao"], one["cycles_prediction"]] for name, one in scf["structures"].items()
        },
        "ratio_of_cycles": scf["mean_ratio_of_cycles"],
    }
