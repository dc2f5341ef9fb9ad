"""Import and export of checkpoints of the reference DeepH-E3 code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from aiida_deeph.engine.domain.neighbours import pair_cutoffs as largest_distances
from aiida_deeph.engine.domain.neighbours import pair_key
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.io.deeph import read_deeph
from aiida_deeph.engine.io.deeph_legacy import read_legacy
from aiida_deeph.engine.io.model import ModelDescription
from aiida_deeph.engine.nn.deephe3.network import EMBEDDING_END, Architecture, DeepHE3, DeepHE3Set, output_irreps
from aiida_deeph.engine.nn.equivariant.irreps import Entry, Irreps, spherical_irreps
from aiida_deeph.engine.nn.reference.conventions import CONVENTIONS, Convention, detect_versions
from aiida_deeph.engine.nn.reference.files import ReferenceModel, read_reference, write_reference
from aiida_deeph.engine.nn.reference.weights import clear_time_odd, fill, head_outputs, state_dict
from aiida_deeph.engine.nn.storage import load_model, save_model


def architecture_of(model: ReferenceModel, convention: Convention) -> Architecture:
    """The architecture of a reference model, every irreps string as stored.

    :raises DataError: its spherical harmonics, outputs or radial basis are not those of its targets.
    """
    where = model.folder / "src" / "build_model.py"
    given = {name: Irreps.parse(value) for name, value in model.arguments.items() if name.startswith("irreps_")}
    ignore_parity = bool(model.arguments.get("no_parity", False))
    sh = given["irreps_sh"]
    if sh != spherical_irreps(sh.lmax, ignore_parity):
        raise DataError(
            "spherical harmonics of an unknown form",
            where=where,
            found=sh,
            expected=spherical_irreps(sh.lmax, ignore_parity),
        )
    layout = EntryLayout.of(model.basis, model.spin, model.targets)
    wanted = output_irreps(layout, ignore_parity)
    expanded = Irreps(Entry(1, irrep) for mul, irrep in given["irreps_out_edge"] for _ in range(mul))
    if expanded != wanted:
        raise DataError(
            "outputs do not fit the targets", where=where, found=str(expanded)[:60], expected=str(wanted)[:60]
        )
    n_gaussians = _check_gaussians(model, "basis", float(model.arguments["r_max"]))
    _check_gaussians(model, "distance_expansion", EMBEDDING_END, given["irreps_edge_init"].n_channels)
    try:
        return Architecture(
            irreps_embed_node=str(given["irreps_embed_node"]),
            irreps_embed_edge=str(given["irreps_edge_init"]),
            irreps_mid_node=str(given["irreps_mid_node"]),
            irreps_mid_edge=str(given["irreps_mid_edge"]),
            irreps_post_node=str(given["irreps_post_node"]),
            irreps_post_edge=str(given["irreps_post_edge"]),
            lmax=sh.lmax,
            n_blocks=model.arguments["num_block"],
            n_gaussians=n_gaussians,
            radial_end=float(model.arguments["r_max"]),
            ignore_parity=ignore_parity,
            path_normalization=convention.normalization,
            targets=model.targets,
        )
    except ValidationError as error:
        raise DataError("network's arguments are wrong", where=where, found=error.errors()[0]["msg"]) from None


def _check_gaussians(model: ReferenceModel, name: str, end: float, n: int | None = None) -> int:
    """Number of Gaussians of a radial basis whose buffers must be those that our formula gives."""
    offsets = model.state.get(f"{name}.offsets")
    n = n or (len(offsets) if offsets is not None and offsets.dim() == 1 else 0)
    expected = np.linspace(0, end, n)
    width = model.state.get(f"{name}.width")
    if (
        offsets is None
        or width is None
        or n < 2
        or offsets.shape != (n,)
        or not np.allclose(offsets.double().numpy(), expected, atol=1e-5)
        or not np.allclose(width.double().numpy(), end / (n - 1), atol=1e-5)
    ):
        raise DataError(
            "radial basis of an unknown form",
            where=f"{model.folder}, {name}",
            expected=f"Gaussians evenly from 0 to {end} Angstrom",
        )
    return n


def uniform_cutoffs(folder: Path, cutoff: float) -> dict[str, float]:
    """One range for all pairs of elements of a reference model, Angstrom."""
    elements = read_reference(folder).basis.elements
    return {key: cutoff for key in sorted({pair_key(a, b) for a in elements for b in elements})}


def measured_cutoffs(folder: Path) -> dict[str, float]:
    """Largest distance of an atom pair by pair of elements, in a DeepH folder (new or legacy) or in all those below it.

    :raises InputError: there is no such folder.
    """
    result: dict[str, float] = {}
    folders = [path for path in (folder, *sorted(folder.glob("*"))) if path.is_dir()]
    legacy = [path for path in folders if (path / "element.dat").is_file()]
    current = [path for path in folders if (path / "POSCAR").is_file()]
    for path in (*legacy, *current):
        data = read_legacy(path) if path in legacy else read_deeph(path)
        matrix = data.hamiltonian or data.overlap
        if matrix is not None:
            for key, value in largest_distances(data.structure, matrix.atom_pairs).items():
                result[key] = max(result.get(key, 0.0), value)
    if not result:
        raise InputError(
            "no DeepH folder", where=folder, expected="hamiltonian.h5 or overlap.h5 in it or in folders below it"
        )
    return dict(sorted(result.items()))


def import_reference(
    sources: Sequence[Path], target: Path, *, e3nn: str = "auto", pair_cutoffs: dict[str, float] | None = None
) -> ModelDescription:
    """Turn training folders of the reference code into one model folder.

    :param sources: each with `best_model.pkl` and `src/`; several must have disjoint targets that together give all
        of H.
    :param e3nn: version that trained the models, `auto` finds it in the state dict.
    :param pair_cutoffs: range of the atom pairs, Angstrom; the reference does not record it. Without it the model
        predicts on the pairs of the matrix that comes with a structure, as the reference does.
    :raises InputError: not such a folder, or the version of e3nn cannot be told.
    :raises DataError: a file is damaged, or the folders do not fit each other.
    """
    models = [read_reference(Path(source)) for source in sources]
    first = models[0]
    basis = first.basis
    for model in models[1:]:
        if model.spin is not first.spin or model.basis != basis:
            raise DataError(
                "models of different bases",
                where=model.folder,
                found=dict(model.basis.shells),
                expected=dict(basis.shells),
            )
    networks, architectures, versions = [], [], []
    for model in models:
        candidates = detect_versions(model.state, model.folder) if e3nn == "auto" else (e3nn,)
        convention = CONVENTIONS[candidates[0]]
        architecture = architecture_of(model, convention)
        network = DeepHE3(architecture, EntryLayout.of(basis, model.spin, model.targets))
        if len(candidates) > 1 and any(sign(convention) < 0 for _, _, sign in head_outputs(network.head, network)):
            raise InputError(
                "version of e3nn cannot be told from the state dict",
                where=model.folder,
                expected=f"one of {', '.join(candidates)}",
                remedy="name it with --e3nn",
            )
        fill(network, model.state, convention, model.folder)
        networks.append(network)
        architectures.append(architecture.model_dump(mode="json"))
        versions.append(candidates[0])
    merged = networks[0] if len(networks) == 1 else DeepHE3Set(networks)
    merged.layout.require_complete()
    description = ModelDescription(
        network="deephe3" if len(networks) == 1 else "deephe3-set",
        architecture=architectures[0] if len(networks) == 1 else {"networks": architectures},
        basis=dict(basis.shells),
        spin=first.spin,
        pair_cutoffs=pair_cutoffs or {},
        origin={
            "code": "DeepH-E3",
            "e3nn": versions[0] if len(set(versions)) == 1 else versions,
            "folders": [Path(model.folder).resolve().name for model in models],
            "epochs": [model.epoch for model in models],
            "parameters": sum(parameter.numel() for parameter in merged.parameters()),
        },
        metrics={"validation_loss": first.loss} if len(models) == 1 and first.loss is not None else {},
    )
    return save_model(target, merged, description)


def export_reference(model_folder: Path, target: Path, *, e3nn: str = "auto") -> list[Path]:
    """Write a model as training folders of the reference code, one per network of a set.

    :param e3nn: version under which the reference will run; `auto` takes 0.3 for `path` and 0.5 for `element` models.
    :returns: the folders written.
    :raises InputError: the network is not DeepH-E3.
    """
    network, description = load_model(model_folder, dtype=torch.float64)
    if isinstance(network, DeepHE3Set):
        parts = [
            (part, Architecture.model_validate(a))
            for part, a in zip(network.networks, description.architecture["networks"], strict=True)
        ]
        folders = [target / f"part-{n}" for n in range(len(parts))]
    elif isinstance(network, DeepHE3) and not network.hermitian:
        parts, folders = [(network, Architecture.model_validate(description.architecture))], [target]
    else:
        raise InputError(
            "network has no counterpart in the reference code",
            where=model_folder,
            found=f"{description.network}, hermitian" if getattr(network, "hermitian", False) else description.network,
            expected="deephe3",
        )
    for (part, architecture), folder in zip(parts, folders, strict=True):
        if architecture.time_reversal:
            clear_time_odd(part)
        version = {"path": "0.3", "element": "0.5"}[architecture.path_normalization] if e3nn == "auto" else e3nn
        write_reference(
            folder,
            reference_arguments(part, architecture),
            description.orbital_basis,
            description.spin,
            architecture.targets,
            state_dict(part, architecture, version),
        )
    return folders


def reference_arguments(network: DeepHE3, architecture: Architecture) -> dict[str, Any]:
    """Keyword arguments with which the reference builds the same network."""
    a = architecture
    arguments: dict[str, Any] = {
        "num_species": network.n_species,
        "irreps_embed_node": a.irreps_embed_node,
        "irreps_edge_init": a.irreps_embed_edge,
        "irreps_sh": str(spherical_irreps(a.lmax, a.ignore_parity)),
        "irreps_mid_node": a.irreps_mid_node,
        "irreps_post_node": a.irreps_post_node,
        "irreps_out_node": "1x0e",
        "irreps_mid_edge": a.irreps_mid_edge,
        "irreps_post_edge": a.irreps_post_edge,
        "irreps_out_edge": str(output_irreps(network.layout, a.ignore_parity)),
        "num_block": a.n_blocks,
        "r_max": a.radial_end,
        "use_sc": True,
        "no_parity": a.ignore_parity,
        "use_sbf": False,
        "only_ij": False,
        "if_sort_irreps": False,
    }
    if a.n_gaussians != 128:
        arguments["num_basis"] = a.n_gaussians
    return arguments
