"""DeepH folders, new and legacy, and structure files, alike."""

from __future__ import annotations

from pathlib import Path

from aiida_deeph.engine.domain.contacts import require_apart
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError, raise_if_machine_failed
from aiida_deeph.engine.io.deeph import read_deeph, read_deeph_structure
from aiida_deeph.engine.io.deeph_legacy import ELEMENT_FILE, read_legacy, read_legacy_structure
from aiida_deeph.engine.io.paths import require_plain_file
from aiida_deeph.engine.io.structure import (
    check_count,
    check_definite,
    check_molfile,
    from_ase,
    looks_like_poscar,
    read_poscar,
)


def is_legacy(folder: Path) -> bool:
    """Whether a DeepH folder is one of the legacy format."""
    return (Path(folder) / ELEMENT_FILE).is_file()


def read_deeph_folder(folder: Path) -> RealSpaceHamiltonian:
    """Read a DeepH folder, new or legacy; H and S are None where their file is absent.

    :raises InputError: not a DeepH folder.
    :raises DataError: a file is damaged or does not fit the others.
    """
    return read_legacy(folder) if is_legacy(folder) else read_deeph(folder)


def read_structures(path: Path) -> list[Structure]:
    """Read all structures of a file that ase knows, or the one of a DeepH folder, new or legacy.

    :raises InputError: the file is missing or is no structure; a site has no definite element.
    """
    import ase.io  # slow to load, and DeepH folders do without
    from ase import Atoms

    path = Path(path)
    if path.is_dir():
        return [read_legacy_structure(path) if is_legacy(path) else read_deeph_structure(path)]
    try:
        require_plain_file(path)
        check_count(path)
        check_molfile(path)
        if looks_like_poscar(path):
            structure = read_poscar(path)
            require_apart(structure, path)
            return [structure]
        frames = ase.io.read(path, index=":")
    except InputError:
        raise
    except DataError as error:
        raise InputError("structure cannot be read", where=path, found=error) from None
    except Exception as error:  # every format of ase has its own exceptions
        raise_if_machine_failed(error)
        raise InputError(
            "structure cannot be read",
            where=path,
            found=f"{type(error).__name__} {error}",
            expected="a structure file that ase reads, e.g. extended xyz, cif, sdf or POSCAR, or a DeepH folder",
        ) from None
    frames = [atoms for atoms in (frames if isinstance(frames, list) else [frames]) if isinstance(atoms, Atoms)]
    if not frames or not all(map(len, frames)):
        raise InputError("structure file holds no atoms", where=path)
    structures = []
    for number, atoms in enumerate(frames):
        where = path if len(frames) == 1 else f"{path}, frame {number}"
        check_definite(atoms, where)
        structures.append(from_ase(atoms))
        require_apart(structures[-1], where)
    return structures


def read_structure(path: Path) -> Structure:
    """Read a structure file that ase knows, or the structure of a DeepH folder, new or legacy.

    :raises InputError: the file is missing, is no structure, or holds several; a site has no definite element.
    """
    structures = read_structures(path)
    if len(structures) > 1:
        raise InputError(
            "several structures in one file",
            where=path,
            found=f"{len(structures)} frames",
            expected="one",
            remedy="write the one that is meant into a file of its own",
        )
    return structures[0]


def read_hamiltonian(folder: Path) -> RealSpaceHamiltonian:
    """H(R) and S(R) of a DeepH folder, new or legacy.

    :raises InputError: there is no such folder.
    :raises DataError: H or S is missing or damaged.
    """
    if not folder.is_dir():
        raise InputError(
            "DeepH folder not found",
            where=folder,
            remedy="give a folder with POSCAR, info.json, hamiltonian.h5, overlap.h5, or a legacy one",
        )
    data, names = read_deeph_folder(folder), ("hamiltonian.h5", "overlap.h5")
    if is_legacy(folder):
        names = ("hamiltonians.h5", "overlaps.h5")
    if data.hamiltonian is None:
        raise DataError("no Hamiltonian", where=folder, expected=names[0], remedy="predict or convert one first")
    if data.overlap is None:
        raise DataError("no overlap", where=folder, expected=names[1], remedy="compute it with `deeph-engine overlap`")
    return data
