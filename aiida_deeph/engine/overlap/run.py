"""The command behind `deeph-engine overlap`: S(R) of a structure into a DeepH folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.moments import Moments, as_vectors
from aiida_deeph.engine.domain.neighbours import pair_key, pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.engine.io.folders import read_structure
from aiida_deeph.engine.io.model import read_description
from aiida_deeph.engine.orbitals.gaussian import GaussianBasis
from aiida_deeph.engine.orbitals.radial import RadialBasis
from aiida_deeph.engine.overlap.basis import is_numeric, load_basis, load_numeric, numeric_names
from aiida_deeph.engine.overlap.config import OverlapConfig

# Atoms closer than this stand on one spot, Angstrom: S would be singular, and the structure is a mistake.
MIN_DISTANCE = 0.1


def run_overlap(config: OverlapConfig, base_dir: Path) -> Path:
    """Write the DeepH folder `config.output` with POSCAR, info.json and overlap.h5.

    `metadata` in info.json holds the basis, the pair cutoffs and `largest_overlap_beyond_cutoffs`: what the pairs that
    were left out can have at most.

    :param base_dir: what relative paths in the configuration refer to.
    :raises InputError: structure, basis, cutoffs or model are wrong or do not fit each other.
    :return: the folder.
    """
    structure = read_structure(base_dir / config.structure)
    _refuse_coincident_atoms(structure)
    method = _method(config, structure.elements, base_dir)
    cutoffs = _pair_cutoffs(config, method, base_dir, any(structure.pbc))
    overlap = method.overlap(structure, pairs_within(structure, cutoffs))
    metadata = {
        "code": "aiida-deeph",
        "kind": method.kind,
        "basis": dict(method.basis.source),
        "pair_cutoffs": cutoffs,
        "largest_overlap_beyond_cutoffs": method.beyond(cutoffs),
    }
    data = RealSpaceHamiltonian(
        structure,
        method.basis.orbital_basis,
        overlap=overlap,
        n_electrons=method.basis.n_electrons(structure.symbols),
        metadata=metadata,
        moments=None if config.magnetic_moments is None else Moments(as_vectors(config.magnetic_moments, "moments")),
    )
    folder = base_dir / config.output
    write_deeph(folder, data)
    return folder


@dataclass(frozen=True)
class _Method:
    """How the overlaps of a kind of basis are computed.

    :param overlap: structure and atom pairs -> S(R) in the order of the pairs.
    :param ranges: threshold -> largest distance of each element pair, Angstrom.
    :param beyond: pair cutoffs -> largest overlap that is left out.
    """

    kind: str
    basis: GaussianBasis | RadialBasis
    overlap: Callable[[Structure, NDArray[np.int64]], BlockSparseMatrix]
    ranges: Callable[[float], dict[str, float]]
    beyond: Callable[[Mapping[str, float]], float]


def _method(config: OverlapConfig, elements: tuple[str, ...], base_dir: Path) -> _Method:
    if is_numeric(config.basis):
        from aiida_deeph.engine.overlap.radial import NumericOverlap

        integrals = NumericOverlap(load_numeric(config.basis, config.orbitals, elements, base_dir))
        return _Method(
            "overlap of numerical orbitals", integrals.basis, integrals.overlap, integrals.ranges, integrals.beyond
        )
    from aiida_deeph.engine.overlap.gaussian import overlap_beyond, overlap_gaussian, overlap_ranges

    basis = load_basis(config.basis, elements, base_dir)
    if config.orbitals is not None:
        raise InputError(
            "a Gaussian basis has no orbitals to choose",
            where="orbitals",
            found=config.basis,
            expected=" or ".join(f"{name}:FOLDER" for name in numeric_names()),
        )
    return _Method(
        "overlap of a Gaussian basis",
        basis,
        lambda structure, pairs: overlap_gaussian(structure, basis, pairs)[1],
        partial(overlap_ranges, basis),
        partial(overlap_beyond, basis),
    )


def _refuse_coincident_atoms(structure: Structure) -> None:
    pairs = pairs_within(structure, MIN_DISTANCE)
    close = pairs[(pairs[:, 3] != pairs[:, 4]) | pairs[:, :3].any(axis=1)]
    if len(close):
        i, j = (int(n) for n in close[0, 3:])
        raise InputError(
            "two atoms on one spot",
            where=f"structure, atoms {i} ({structure.symbols[i]}) and {j} ({structure.symbols[j]}) counted from 0",
            found=f"{np.linalg.norm(structure.pair_vectors(close[:1])):.3f} Angstrom",
            expected=f"more than {MIN_DISTANCE} Angstrom",
            remedy="remove one of them",
        )


def _pair_cutoffs(config: OverlapConfig, method: _Method, base_dir: Path, periodic: bool) -> dict[str, float]:
    """Largest distance of each element pair, Angstrom; of a molecule, at least as far as its orbitals overlap."""
    elements = tuple(method.basis.shells)
    if config.cutoff is not None:
        return {pair_key(a, b): config.cutoff for a in elements for b in elements}
    if config.pair_cutoffs is not None:
        wrong = [key for key in config.pair_cutoffs if key.count("-") != 1 or key != pair_key(*key.split("-"))]
        if wrong:
            raise InputError(
                "wrong name of an element pair",
                where="pair_cutoffs",
                found=", ".join(wrong),
                expected="names like C-H, sorted",
            )
        return dict(config.pair_cutoffs)
    whole_range = partial(method.ranges, config.threshold)
    if config.model is None:
        return whole_range()
    description = read_description(base_dir / config.model, check_weights=False)
    description.require_elements(elements)
    try:
        description.orbital_basis.union(method.basis.orbital_basis)
    except DataError as error:
        raise InputError(
            "basis is not the one that the model was trained on",
            where=f"basis {config.basis}",
            found=error,
            remedy="give the basis of the training data",
        ) from None
    known = dict(description.pair_cutoffs)
    return known if periodic else {key: max(end, known.get(key, 0.0)) for key, end in whole_range().items()}
