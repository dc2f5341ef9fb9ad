"""The command behind `deeph-engine overlap`: S(R) of a structure into a DeepH folder."""

from __future__ import annotations

from pathlib import Path

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pair_key, pairs_within
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.engine.io.model import read_description
from aiida_deeph.engine.io.structure import read_structure
from aiida_deeph.engine.overlap.basis import GaussianBasis, load_basis
from aiida_deeph.engine.overlap.config import OverlapConfig
from aiida_deeph.engine.overlap.gaussian import overlap_beyond, overlap_gaussian, overlap_ranges


def run_overlap(config: OverlapConfig, base_dir: Path) -> Path:
    """Write the DeepH folder `config.output` with POSCAR, info.json and overlap.h5.

    `metadata` in info.json holds the basis, the pair cutoffs and `largest_overlap_beyond_cutoffs`: what the pairs that
    were left out can have at most.

    :param base_dir: what relative paths in the configuration refer to.
    :raises InputError: structure, basis, cutoffs or model are wrong or do not fit each other.
    :return: the folder.
    """
    structure = read_structure(base_dir / config.structure)
    basis = load_basis(config.basis, structure.elements, base_dir)
    cutoffs = _pair_cutoffs(config, basis, base_dir)
    atom_pairs = pairs_within(structure, cutoffs)
    orbital_basis, overlap = overlap_gaussian(structure, basis, atom_pairs)
    metadata = {
        "code": "aiida-deeph",
        "kind": "overlap of a Gaussian basis",
        "basis": dict(basis.source),
        "pair_cutoffs": cutoffs,
        "largest_overlap_beyond_cutoffs": overlap_beyond(basis, cutoffs),
    }
    data = RealSpaceHamiltonian(
        structure,
        orbital_basis,
        overlap=overlap,
        n_electrons=basis.n_electrons(structure.symbols),
        metadata=metadata,
    )
    folder = base_dir / config.output
    write_deeph(folder, data)
    return folder


def _pair_cutoffs(config: OverlapConfig, basis: GaussianBasis, base_dir: Path) -> dict[str, float]:
    """Largest distance of each element pair, Angstrom."""
    elements = tuple(basis.shells)
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
    if config.model is None:
        return overlap_ranges(basis, config.threshold)
    description = read_description(base_dir / config.model, check_weights=False)
    description.require_elements(elements)
    try:
        description.orbital_basis.union(basis.orbital_basis)
    except DataError as error:
        raise InputError(
            "basis is not the one that the model was trained on",
            where=f"basis {config.basis}",
            found=error,
            remedy="give the basis of the training data",
        ) from None
    return dict(description.pair_cutoffs)
