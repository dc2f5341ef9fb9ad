"""`deeph-engine select`: what a model expects of many structures, and which of them to label next."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aiida_deeph import __version__
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.files import write_text_atomic
from aiida_deeph.engine.io.folders import read_structure
from aiida_deeph.engine.io.model import ModelDescription
from aiida_deeph.engine.nn.network import Network
from aiida_deeph.engine.nn.storage import load_model
from aiida_deeph.engine.prediction.config import SelectConfig
from aiida_deeph.engine.prediction.information import ROWS, information
from aiida_deeph.engine.prediction.rules import RULES, Pool, Rows
from aiida_deeph.engine.system_torch import find_device

EXPECTED = ("expected_mae_eV", "largest_expected_error_eV", "n_atoms", "n_atoms_outside")
"""What is told of each structure."""


def read_folder(path: Path) -> dict[str, Structure]:
    """Structures of a folder by the names of their files without ending.

    :raises InputError: there is none.
    """
    files = sorted(file for file in path.glob("*") if file.is_file()) if path.is_dir() else []
    if not files:
        raise InputError("no structures", where=path, expected="a folder of structure files")
    return {file.stem: read_structure(file) for file in files}


def survey(
    network: Network, description: ModelDescription, structures: dict[str, Structure]
) -> tuple[dict[str, dict[str, Any]], list[tuple[Rows, Rows]]]:
    """What a model expects of each structure by name, and what their labels would tell, plain and weighted.

    :raises InputError: an element that the model does not know, or a model without posterior, or of magnets.
    """
    if description.kinds:
        raise InputError("magnets are not chosen from", where="model", found="collinear", expected="a model without")
    expected, told = {}, []
    for name, structure in structures.items():
        description.require_elements(structure.symbols)
        pairs = network.pairs(structure, description.pair_cutoffs)
        trust, *rows = information(network, structure, pairs, description)
        orbitals = description.orbital_basis.orbitals_per_atom(structure.symbols) * description.spin.multiplicity
        found = {"n_atoms": len(structure), **trust.summary(pairs, orbitals)}
        expected[name] = {key: found[key] for key in EXPECTED}
        told.append((rows[0], rows[1]))
    return expected, told


def stacked(rows: list[Rows], features: dict[str, int]) -> Rows:
    """Rows of several structures as arrays, zeros where a structure lacks a kind."""
    return {kind: np.stack([found.get(kind, np.zeros((ROWS, n))) for found in rows]) for kind, n in features.items()}


def choose(
    network: Network,
    description: ModelDescription,
    candidates: dict[str, Structure],
    targets: dict[str, Structure],
    *,
    rule: str,
    count: int,
    seed: int = 0,
    known: tuple[str, ...] = (),
) -> dict[str, Any]:
    """What the model expects of candidates and targets, and which candidates to label next.

    :param targets: what shall be predicted well; without any, the candidates themselves.
    :param known: candidates that are labelled already.
    :return: `selected` (names), `candidates` and `targets` (name -> expected errors), `expected_mae_eV`, the mean over
        the targets, or else the candidates.
    :raises InputError: see `survey`.
    """
    expected, told = survey(network, description, candidates)
    goals, wanted = survey(network, description, targets) if targets else (expected, told)
    features = {kind: rows.shape[1] for found, _ in (*told, *wanted) for kind, rows in found.items()}
    pool = Pool(
        expected_error=np.array([found["expected_mae_eV"] for found in expected.values()]),
        free=np.array([name not in known for name in candidates]),
        candidates=stacked([plain for plain, _ in told], features),
        targets=stacked([weighted for _, weighted in wanted], features),
    )
    chosen = RULES[rule](pool, count, np.random.default_rng(seed))
    names = list(candidates)
    return {
        "selected": [names[place] for place in chosen],
        "expected_mae_eV": float(np.mean([found["expected_mae_eV"] for found in goals.values()])),
        "largest_expected_error_eV": max(found["largest_expected_error_eV"] for found in goals.values()),
        "candidates": expected,
        "targets": goals if targets else {},
    }


def select(config: SelectConfig) -> Path:
    """Write what is expected of each structure and which candidates were chosen to `OUTPUT`, a JSON file.

    :raises InputError: a structure does not fit the model, or the model has no posterior.
    """
    start = time.monotonic()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = find_device(config.device)
    network, description = load_model(Path(config.model), dtype=torch.float32, device=device)
    candidates = read_folder(Path(config.candidates))
    targets = read_folder(Path(config.targets)) if config.targets is not None else {}
    report = choose(
        network,
        description,
        candidates,
        targets,
        rule=config.rule,
        count=config.count,
        seed=config.seed,
        known=config.known,
    )
    report |= {
        "rule": config.rule,
        "n_candidates": len(candidates),
        "seconds": time.monotonic() - start,
        "model_sha256": description.weights_sha256,
        "version": __version__,
    }
    write_text_atomic(Path(config.output), json.dumps(report, indent=2) + "\n")
    return Path(config.output)
