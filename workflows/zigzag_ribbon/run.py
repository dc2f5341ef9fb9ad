"""Zigzag graphene nanoribbons: narrow ones labelled in both orders of their edges, a wide one predicted.

`python run.py FOLDER` labels by PySCF (what is there already is kept), fits the closed form, predicts both orders of
the wide ribbon, and draws their bands. It needs no AiiDA.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

from aiida_deeph import (
    Bands,
    BandsConfig,
    EvaluateConfig,
    OverlapConfig,
    PredictConfig,
    PreprocessConfig,
    TrainConfig,
    draw_bands,
    evaluate,
    load_config,
    new_figure,
    predict,
    run_overlap,
    run_preprocess,
    train,
)

ORDERS = {"afm": -1.0, "fm": 1.0}
NARROW = {4: 4, 5: 4, 6: 1}  # zigzag chains -> cells; the widest is for the test
WIDE = 10
LENGTH, BOND, HYDROGEN, VACUUM = 2.46, 1.42, 1.09, 9.0  # Angstrom
SCF = {"kmesh": [12, 1, 1], "ke_cutoff": 30, "smearing": 0.05, "max_cycle": 150, "vacuum_level": True, "threads": 1}


def ribbon(n_chains: int) -> Atoms:
    """A ribbon along x, its edges closed by hydrogen; its first and its last carbon atom are the edges."""
    places = []
    for chain in range(n_chains):
        x, y = (LENGTH / 2 if chain % 2 else 0.0), 1.5 * BOND * chain
        places += [(x, y), ((x + LENGTH / 2) % LENGTH, y + BOND / 2)]
    places += [(places[0][0], places[0][1] - HYDROGEN), (places[-1][0], places[-1][1] + HYDROGEN)]
    positions = np.array([(x, y + HYDROGEN + VACUUM / 2, VACUUM / 2) for x, y in places])
    cell = np.diag([LENGTH, positions[:, 1].max() + VACUUM / 2, VACUUM])
    return Atoms("C" * (2 * n_chains) + "H2", positions=positions, cell=cell, pbc=(True, False, False))


def rattled(n_chains: int, number: int) -> Atoms:
    """Every atom displaced and the cell strained."""
    atoms, rng = ribbon(n_chains), np.random.default_rng(100 * n_chains + number)
    atoms.positions += rng.normal(scale=0.02, size=atoms.positions.shape)
    atoms.set_cell(atoms.cell * [[1 + rng.uniform(-0.015, 0.015)], [1], [1]])
    return atoms


def moments(atoms: Atoms, sign: float) -> list[float]:
    """One Bohr magneton on both edges, or opposite ones."""
    found = [0.0] * len(atoms)
    found[0], found[len(atoms) - 3] = 1.0, sign
    return found


def label(folder: Path, atoms: Atoms, sign: float) -> None:
    """Run PySCF, unless it has been run."""
    if (folder / "results.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "structure.xyz", atoms, format="extxyz")
    (folder / "in.json").write_text(json.dumps({**SCF, "magnetic_moments": moments(atoms, sign)}))
    subprocess.run(["deeph-engine", "pyscf", "in.json"], cwd=folder, check=True)


def model(root: Path) -> Path:
    """Labels, a dataset, the closed form fitted to it."""
    members = []
    for n_chains, count in NARROW.items():
        for number in range(count):
            for order, sign in ORDERS.items():
                name = f"n{n_chains}_{number}_{order}"
                label(root / name, rattled(n_chains, number), sign)
                members.append({"name": name, "path": name, "code": "pyscf"})
    (root / "preprocess.json").write_text(json.dumps({"members": members, "cutoff": 7.5}))
    run_preprocess(load_config(PreprocessConfig, root / "preprocess.json"), root, overwrite=True)
    network = {"name": "closed-form", "element_channels": 4}  # C, C_up, C_down, H
    held_out = [member["name"] for member in members if member["name"].startswith(f"n{max(NARROW)}")]
    split = {"train": [m["name"] for m in members if m["name"] not in held_out], "test": held_out}
    config = {"dataset": str(root / "dataset"), "network": network, "split": split, "precision": "float64"}
    (root / "train.json").write_text(json.dumps(config))
    train(load_config(TrainConfig, root / "train.json"), root, quiet=True)
    output = str(root / "test.json")
    judged = EvaluateConfig(dataset=str(root / "dataset"), model=str(root / "model"), members="test", output=output)
    print(f"test: {1e3 * evaluate(judged, show_progress=False)['mae_eV']:.2f} meV")
    return root / "model"


def main(root: Path) -> None:
    """The whole recipe; numbers go to `gaps.json`, the picture to `bands.png`."""
    root.mkdir(parents=True, exist_ok=True)
    fitted, atoms, gaps = model(root), ribbon(WIDE), {}
    figure = new_figure(9.0, 4.0)
    axes = dict(zip(ORDERS, figure.subplots(1, 2), strict=True))
    write(root / "wide.xyz", atoms, format="extxyz")
    for order, sign in ORDERS.items():
        overlap, output = root / f"overlap_{order}", root / f"wide_{order}"
        common = {"structure": str(root / "wide.xyz"), "basis": "pyscf:gth-szv", "model": str(fitted)}
        run_overlap(OverlapConfig(**common, output=str(overlap), magnetic_moments=moments(atoms, sign)), Path())
        predict(PredictConfig(model=str(fitted), structure=str(overlap), output=str(output), precision="float64"))
        kpoints = [[x, 0.0, 0.0] for x in np.linspace(0.0, 0.5, 41)]
        config = {"folder": str(output), "kpoints": kpoints, "output": str(root / f"bands_{order}.json")}
        result = json.loads(Bands.run(BandsConfig(**config)).read_text())
        gaps[order] = float(result["fermi"]["gap"])
        draw_bands(axes[order], result["distances"], result["energies"], zero=result["fermi_level"], window=(-2.5, 2.5))
        axes[order].set_title(f"{WIDE} chains, edges {'alike' if sign > 0 else 'opposite'}: gap {gaps[order]:.2f} eV")
    figure.savefig(root / "bands.png", dpi=110)
    (root / "gaps.json").write_text(json.dumps(gaps) + "\n")
    print(gaps)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
