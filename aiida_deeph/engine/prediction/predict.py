"""`deeph-engine predict`: H(R) of one structure from a trained model."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aiida_deeph import __version__
from aiida_deeph.engine.dft.start import is_subtracted, settings_of, with_start
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix, match_pairs
from aiida_deeph.engine.domain.channels import channels_of, joined, pairs_of_channels
from aiida_deeph.engine.domain.checks import finite
from aiida_deeph.engine.domain.decay import as_curves
from aiida_deeph.engine.domain.geometry import overlap_by_distance
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.moments import Moments, as_vectors
from aiida_deeph.engine.domain.ranges import outside_ranges
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.deeph import INFO_FILE, read_deeph, write_deeph
from aiida_deeph.engine.io.deeph_legacy import read_legacy
from aiida_deeph.engine.io.files import write_text_atomic
from aiida_deeph.engine.io.folders import read_structure
from aiida_deeph.engine.io.model import ModelDescription
from aiida_deeph.engine.nn.network import Network
from aiida_deeph.engine.nn.storage import load_model
from aiida_deeph.engine.prediction.chunked import predict_entries
from aiida_deeph.engine.prediction.config import PredictConfig
from aiida_deeph.engine.prediction.trust import Trust
from aiida_deeph.engine.system import peak_memory_GiB
from aiida_deeph.engine.system_torch import find_device, started_ranks

REPORT_FILE = "prediction.json"
ELEMENT_FILE = "element.dat"  # found in legacy DeepH folders alone


@dataclass(frozen=True)
class Target:
    """What is predicted.

    :param overlap: S(R) of the structure, if it is known.
    :param n_electrons: valence electrons, if they are known.
    :param atom_pairs: those of a matrix that came with the structure, shape (n_pairs, 5).
    :param basis: of the overlap by element, as its metadata name it.
    :param moments: of the atoms, if they are known.
    """

    structure: Structure
    overlap: BlockSparseMatrix | None = None
    n_electrons: float | None = None
    atom_pairs: NDArray[np.int64] | None = None
    basis: Any = None
    moments: Moments | None = None


def read_target(path: Path, description: ModelDescription) -> Target:
    """A structure file, or a DeepH folder with or without overlap.

    :raises InputError: no such structure, an element unknown to the model, or another basis than the model's.
    """
    if not path.exists():
        raise InputError("no such structure", where=path, expected="a DeepH folder or a structure file")
    legacy = (path / ELEMENT_FILE).is_file()
    if not legacy and not (path.is_dir() and (path / INFO_FILE).is_file()):
        structure = read_structure(path)
        description.require_elements(structure.symbols)
        return Target(structure)
    # A Hamiltonian that may lie there is not read, unless its pairs are needed: a file of the name given never exists.
    read = read_legacy if legacy else read_deeph
    data = read(path, hamiltonian_file=".none") if description.pair_cutoffs else read(path)
    description.require_elements(data.structure.symbols)
    if data.overlap is not None and not finite("S", data.overlap).passed:
        raise DataError("overlap holds NaN", where=path, remedy="compute it again with `deeph-engine overlap`")
    for symbol in data.structure.elements:
        if data.basis.shells_of(symbol) != description.orbital_basis.shells_of(symbol):
            raise InputError(
                "basis of the overlap is not that of the model",
                where=f"{path}, {symbol}",
                found=list(data.basis.shells_of(symbol)),
                expected=list(description.basis[symbol]),
                remedy="compute the overlap in the basis of the training data",
            )
    known = dict(as_curves(description.data.get("agreement", {}).get("overlap_by_distance", {})))
    basis = None if data.overlap is None else overlap_by_distance(data, known)
    if basis is not None and not basis.passed:
        raise InputError(
            "overlap is not in the basis of the training data",
            where=path,
            found=f"|S| that differs by {basis.value:.2g}, {basis.detail}",
            expected="the overlaps of the model's training data at equal distances",
            remedy="compute the overlap in the basis of the training data",
        )
    matrix = data.hamiltonian or data.overlap
    pairs = None if matrix is None else matrix.atom_pairs
    basis = data.metadata.get("basis")
    return Target(data.structure, data.overlap, data.n_electrons, pairs, basis, data.moments)


def pairs_of(target: Target, network: Network, description: ModelDescription) -> NDArray[np.int64]:
    """Pairs that the network predicts; if an imported model does not know its range, those of the structure's H or S.

    :raises InputError: neither is known.
    """
    if description.pair_cutoffs or network.all_pairs:
        return network.pairs(target.structure, description.pair_cutoffs)
    if target.atom_pairs is None:
        raise InputError(
            "range of the model is not known",
            where="model, pair_cutoffs",
            expected="a structure with a matrix, whose pairs are taken",
            remedy="give a DeepH folder with overlap, or import the model with --cutoff or --dataset",
        )
    return target.atom_pairs


def outside_overlap(overlap: BlockSparseMatrix | None, atom_pairs: NDArray[np.int64]) -> float | None:
    """Largest |S| in pairs where the model predicts no H; None without overlap."""
    if overlap is None:
        return None
    outside = match_pairs(atom_pairs, overlap.atom_pairs) < 0
    return float(overlap.norms()[outside].max(initial=0.0))


def outside_training(
    description: ModelDescription, structure: Structure, atom_pairs: NDArray[np.int64]
) -> dict[str, Any]:
    """Pairs at distances that the model was not trained on; nothing if the model does not know which it was."""
    ranges = description.training.get("distances_A")
    return {} if ranges is None else {"outside_trained_distances": outside_ranges(ranges, structure, atom_pairs)}


def predict(config: PredictConfig, *, show_progress: bool | None = None) -> Path | None:
    """Write the predicted H(R), with the overlap if the structure came with one, as a DeepH folder.

    Processes that torchrun started share the pairs of the structure; the first one writes.

    The pairs are those within the model's range for each element pair; where the overlap has more, H is zero. An
    imported model may not know its range: then the pairs are those of the matrix that came with the structure.
    `prediction.json` beside the matrices says what it took.

    :param show_progress: None shows a bar when stderr is a terminal.
    :return: the folder; None on all processes but the first.
    :raises InputError: the structure does not fit the model.
    :raises DataError: the model predicts NaN.
    """
    start = time.monotonic()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = find_device(config.device)
    dtype = torch.float64 if config.precision == "float64" else torch.float32
    with started_ranks(device) as ranks:
        network, description = load_model(Path(config.model), dtype=dtype, device=device)
        target = read_target(Path(config.structure), description)
        if config.magnetic_moments is not None:
            target = replace(target, moments=Moments(as_vectors(config.magnetic_moments, "magnetic_moments")))
        structure = target.structure
        pairs = pairs_of(target, network, description)
        own = pairs[ranks.share(len(pairs))]
        seen, all_seen = structure, pairs
        if description.spin is SpinMode.COLLINEAR:
            seen = channels_of(structure, target.moments)
            description.require_kinds(seen.symbols)
            own, all_seen = (pairs_of_channels(some, len(structure)) for some in (own, pairs))
        loaded = time.monotonic()
        trust = Trust.empty(len(own))
        entries = predict_entries(
            network,
            seen,
            own,
            description,
            edges_per_chunk=config.edges_per_chunk,
            dtype=dtype,
            device=device,
            progress=ranks.is_first and (sys.stderr.isatty() if show_progress is None else show_progress),
            ranks=ranks,
            trust=trust,
        )
        n_channels = 2 if description.spin is SpinMode.COLLINEAR else 1
        found = [
            ranks.gather(part)
            for values in (entries, trust.expected_error, trust.outside)
            for part in np.split(values, n_channels)
        ]
    if found[0] is None:
        return None
    known = [values for values in found if values is not None]
    channels, trust = known[:n_channels], Trust.of_channels(known[n_channels:])
    predicted = time.monotonic()
    if not all(np.isfinite(entries).all() for entries in channels):
        raise DataError("model predicts NaN", where=config.model, remedy="train it again, or predict in float64")
    rows = description.orbital_basis.orbitals_per_atom(structure.symbols) * description.network_spin.multiplicity
    # In float32 the entries stay so, in memory and on disk: half of what a large structure needs.
    matrices = [BlockSparseMatrix.from_pairs(pairs, rows, entries) for entries in channels]
    matrix = matrices[0] if n_channels == 1 else joined(*matrices)
    del entries, found, known, channels, matrices
    hermiticity_error = None
    is_hermitian = not config.strict or network.hermitian
    if is_hermitian:
        before = average_directions(matrix)
        # Where the average is a part of the network, its two terms are no predictions of the same thing.
        hermiticity_error = None if network.hermitian else before
    metadata = {
        "code": "deeph-engine",
        "version": __version__,
        "predicted": True,
        "gauge": description.gauge,
        "model_sha256": description.weights_sha256,
        "hermitian": is_hermitian,
        "precision": config.precision,
        **({} if target.basis is None else {"basis": target.basis}),
    }
    output = Path(config.output)
    data = RealSpaceHamiltonian(
        structure=structure,
        basis=description.orbital_basis,
        spin=description.spin,
        hamiltonian=matrix,
        overlap=target.overlap,
        n_electrons=target.n_electrons,
        metadata=metadata,
        moments=target.moments,
    )
    if is_subtracted(description.data):
        data = with_start(data, settings_of(description.data))
    write_deeph(output, data)
    report = {
        "n_atoms": len(structure),
        "n_pairs": len(pairs),
        "n_entries": len(matrix.entries),
        "seconds": time.monotonic() - start,
        "network_seconds": predicted - loaded,
        "n_processes": ranks.size,
        "peak_memory_GiB": peak_memory(device),
        "overlap": target.overlap is not None,
        "largest_overlap_outside": outside_overlap(target.overlap, pairs),
        **outside_training(description, seen, all_seen),
        "hermiticity_error_eV": hermiticity_error,
        **trust.summary(pairs, rows),
        "gauge": description.gauge,
        "model_sha256": description.weights_sha256,
        "strict": config.strict,
        "precision": config.precision,
        "device": str(device),
        "version": __version__,
    }
    write_text_atomic(output / REPORT_FILE, json.dumps(report, indent=2) + "\n")
    return output


def average_directions(matrix: BlockSparseMatrix, entries_at_a_time: int = 10**7) -> float:
    """Make a matrix Hermitian in place, (H + H^dagger) / 2, with one copy of it in memory besides.

    :return: largest |H - H^dagger| before, eV.
    """
    entries, adjoint = matrix.entries, matrix.adjoint().entries
    largest = 0.0
    for first in range(0, len(entries), entries_at_a_time):
        part, other = (values[first : first + entries_at_a_time] for values in (entries, adjoint))
        largest = max(largest, float(np.abs(part - other).max(initial=0.0)))
        part += other
        part /= 2
    return largest


def peak_memory(device: torch.device) -> float:
    """Largest resident memory of this process so far, or what torch took on the GPU, GiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return peak_memory_GiB()
