"""The recipe in full: `verdi run run.py` labels, trains three networks on the same data, predicts, and runs the SCFs.

Every step is a process of its own; at the end a table and `molecules.png` say what each network gives and costs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory

from aiida_deeph import FullInputs, full_builder, load_config

HERE = Path(__file__).resolve().parent
# What each network has otherwise than the closed form of inputs.yaml.
NETWORKS: dict[str, dict[str, Any]] = {
    "deephe3-residual": {
        "network": {"name": "deephe3-residual", "irreps_embed": "16x0e", "irreps_mid": "24x0e+12x1o+8x2e+4x3o+4x4e"},
        "epochs": 40,
        "batch_size": 6,
        "learning_rate": 1.0e-3,
    },
    "qhnet": {
        "network": {"name": "qhnet", "channels": 16, "bottleneck": 8, "all_pairs": True},
        "epochs": 120,
        "batch_size": 6,
        "learning_rate": 2.0e-3,
        "loss": {"squared": 1, "absolute": 1, "unit": "Hartree", "mean": "structures"},
        "optimizer": {"name": "adamw", "betas": [0.99, 0.999], "weight_decay": 0.01},
        "gradient_clip": 5.0,
        "best_by": "absolute",
    },
}
MEASURES = ("hamiltonian_uHartree", "occupied_levels_uHartree", "orbitals_by_overlap")


def ended_well(builder: Any) -> Any:
    """The node of a process that is run here and now."""
    _, node = run_get_node(builder)
    if not node.is_finished_ok:
        raise SystemExit(f"{node.process_label}<{node.pk}>: [{node.exit_status}] {node.exit_message}")
    print(f"{node.process_label}<{node.pk}> done")
    return node


def main() -> None:
    """Label and fit; train the others on the same data; predict and accelerate with each."""
    inputs = load_config(FullInputs, HERE / "inputs.yaml")
    builder = full_builder(inputs, HERE / "inputs.yaml")
    code, split = builder.train.train.code, inputs.overrides["train"]["train"]["parameters"]["split"]
    full = ended_well(builder)
    label = {"parameters": full.inputs.dataset.label.parameters.get_dict()}
    trained = {"closed-form": (full.outputs.model, full.outputs.errors, full.outputs.hamiltonian)}
    for name, parameters in NETWORKS.items():
        changes = {**parameters, "split": split, "threads": 1, "device": "cpu"}
        train = WorkflowFactory("deeph.train").get_builder_from_protocol(
            code,
            full.outputs.dataset,
            full.outputs.dataset_folder,
            protocol=inputs.protocol,
            overrides={"train": {"parameters": changes}},
        )
        fitted = ended_well(train)
        targets = WorkflowFactory("deeph.targets").get_builder_from_protocol(
            {"engine": code}, fitted.outputs.model, dict(full.inputs.targets.items()), protocol=inputs.protocol
        )
        trained[name] = (fitted.outputs.model, fitted.outputs.errors, ended_well(targets).outputs.hamiltonian)
    table = {}
    for name, (model, errors, hamiltonians) in trained.items():
        scf = WorkflowFactory("deeph.accelerate").get_builder_from_protocol(
            code, dict(hamiltonians.items()), protocol=inputs.protocol, overrides={"scf": label}
        )
        report = ended_well(scf).outputs.output_parameters
        means = errors["mean_of_molecules"]
        table[name] = {
            **{measure: means[measure] for measure in MEASURES},
            "training_seconds": model.model_description.training["seconds"],
            "cycles": report["mean_cycles_prediction"],
            "cycles_minao": report["mean_cycles_minao"],
            "ratio": report["mean_ratio_of_cycles"],
            "ratio_of_seconds": report["mean_seconds_prediction"] / report["mean_seconds_minao"],
        }
    write(table)


def write(table: dict[str, dict[str, float]]) -> None:
    """Print the table in Markdown, and draw it."""
    columns = list(next(iter(table.values())))
    print(f"| network | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, row in table.items():
        print(f"| {name} | {' | '.join(f'{row[column]:.4g}' for column in columns)} |")
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    names = list(table)
    left.bar(names, [table[name]["hamiltonian_uHartree"] for name in names], color="tab:blue")
    left.set_yscale("log")
    left.set_ylabel("mean |error of H|, 1e-6 Hartree")
    right.bar(names, [table[name]["cycles"] for name in names], color="tab:orange")
    right.axhline(table[names[0]]["cycles_minao"], color="black", linestyle="--", label="from minao")
    right.set_ylabel("SCF cycles from the prediction")
    right.legend()
    figure.savefig(HERE / "molecules.png", dpi=120)


if __name__ == "__main__":
    main()
