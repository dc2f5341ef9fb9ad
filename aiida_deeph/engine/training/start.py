"""Where a training begins: at nothing, at a model, or at a checkpoint; and which members it trains on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.dataset import DatasetManifest, Member
from aiida_deeph.engine.io.model import ModelDescription
from aiida_deeph.engine.io.split import split
from aiida_deeph.engine.nn.network import Network, build_network, describe_network
from aiida_deeph.engine.nn.storage import load_model
from aiida_deeph.engine.training.checkpoint import description_of, load_checkpoint, require_same_run
from aiida_deeph.engine.training.config import TrainConfig

Split = dict[str, list[Member]]


@dataclass(frozen=True)
class Start:
    """Where a training begins.

    :param parts: members to train on, to validate and to test with.
    :param state: of the checkpoint, if one is continued.
    :param is_new: the network holds random weights and nothing learnt.
    """

    network: Network
    description: ModelDescription
    parts: Split
    state: dict[str, Any] | None = None
    is_new: bool = False


def find_start(config: TrainConfig, manifest: DatasetManifest, world_size: int = 1) -> Start:
    """Network, description and members: of the checkpoint, of the initial model, or new from the seed.

    :raises InputError: the checkpoint or the model does not fit the dataset.
    """
    where = Path(config.dataset)
    states = set(manifest.statistics.get("magnetic_states", {})) - {"nonmagnetic"}
    if manifest.spin is SpinMode.NONCOLLINEAR and states:
        # No network takes directions of moments: it would learn the mean over all of them.
        raise InputError(
            "noncollinear magnets cannot be learnt yet",
            where=f"{where}, moments",
            found=", ".join(sorted(states)),
            expected="collinear magnets, or spin-orbit coupling without moments",
        )
    if config.restart is not None:
        state = load_checkpoint(Path(config.restart))
        parts = split(manifest, config.split, config.split.seed, state["split"])
        require_same_run(state, config, split_uuids(parts), where, world_size)
        description = description_of(state)
        # The loop loads it again; here it makes constants that prepare the graphs known, with all their digits.
        network = build_network(description).to(getattr(torch, config.precision))
        network.load_state_dict(state["network"])
        return Start(network, description, parts, state)
    if config.initial_model is not None:
        network, description = load_model(Path(config.initial_model), dtype=torch.float32, device="cpu")
        parts = unseen_split(config, manifest, description)
        return Start(network, adapted_description(description, manifest, where), parts)
    parts = split(manifest, config.split, config.split.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        description = describe_network(
            config.network, manifest.orbital_basis, manifest.spin, dict(manifest.pair_cutoffs), manifest.kinds
        )
        return Start(build_network(description), description, parts, is_new=True)


def unseen_split(config: TrainConfig, manifest: DatasetManifest, description: ModelDescription) -> Split:
    """Parts of a dataset of which a model may have seen some members: those it was trained on are trained on again.

    :raises InputError: the shares would test the new model on what the old one was trained on.
    """
    recorded = description.training.get("split", {})
    earlier = {name: [entry["uuid"] for entry in members] for name, members in recorded.items()}
    parts = split(manifest, config.split, config.split.seed, earlier)
    seen = {*earlier.get("train", ()), *earlier.get("validation", ())}
    known = [member.name for member in parts["test"] if member.uuid in seen]
    if known:
        raise InputError(
            "test members that the initial model was fitted to",
            where="split",
            found=", ".join(known[:5]),
            expected="members that it has not seen",
            remedy="raise the shares of train and validation, or add members to the dataset",
        )
    return parts


def adapted_description(description: ModelDescription, manifest: DatasetManifest, where: Path) -> ModelDescription:
    """Description of a model that is trained on with another dataset: its pairs are those of both.

    :raises InputError: an element, its basis, the spin mode or the gauge differs.
    """
    description.require_elements(tuple(manifest.basis))
    for name, found, expected in (
        *((f"basis of {s}", list(ls), list(description.basis[s])) for s, ls in manifest.basis.items()),
        ("spin", manifest.spin.value, description.spin.value),
        ("gauge", manifest.gauge, description.gauge),
        ("kinds of atoms", sorted({*manifest.kinds, *description.kinds}), sorted(description.kinds)),
    ):
        if found != expected:
            raise InputError(
                "dataset does not fit the initial model", where=f"{where}, {name}", found=found, expected=expected
            )
    cutoffs = {
        key: max(manifest.pair_cutoffs.get(key, 0.0), description.pair_cutoffs.get(key, 0.0))
        for key in sorted({*manifest.pair_cutoffs, *description.pair_cutoffs})
    }
    origin = {**description.origin, "initial_model_sha256": description.weights_sha256}
    return description.model_copy(update={"pair_cutoffs": cutoffs, "origin": origin, "metrics": {}})


def split_uuids(parts: Split) -> dict[str, list[str]]:
    """Members of each part by uuid."""
    return {name: [member.uuid for member in members] for name, members in parts.items()}
