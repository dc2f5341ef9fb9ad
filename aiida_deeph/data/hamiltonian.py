"""H(R) and S(R) of a structure as a node; its repository is a DeepH folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from aiida.common.exceptions import ValidationError
from aiida.orm import StructureData

from aiida_deeph.data.folder import FolderNode
from aiida_deeph.data.structure import from_engine
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.io.deeph import (
    HAMILTONIAN_FILE,
    INFO_FILE,
    OVERLAP_FILE,
    STRUCTURE_FILE,
    check_matrix,
    read_deeph,
    read_deeph_structure,
    read_folder_info,
)
from aiida_deeph.engine.io.files import file_sha256
from aiida_deeph.engine.io.moments import MOMENTS_FILE, read_moments
from aiida_deeph.engine.io.sisl import to_sisl

MATRIX_FILES = (HAMILTONIAN_FILE, OVERLAP_FILE)


class HamiltonianData(FolderNode):
    """A DeepH folder: `POSCAR`, `info.json`, `hamiltonian.h5` and `overlap.h5` (one of the two may be absent), of
    magnets `moments.json`.

    Attributes: n_atoms, n_pairs, elements, basis (element -> l of each shell), spin (`none`, `collinear`,
    `noncollinear`), fermi_energy (eV or None), fermi_energy_units, files (name -> sha256).
    """

    def __init__(self, folder: Path | str | None = None, **kwargs: Any) -> None:
        """Take the files of a DeepH folder.

        :raises InputError: not a DeepH folder.
        :raises DataError: a matrix file is truncated, empty or holds NaN, or none is there.
        """
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        if folder is not None:
            self._take(Path(folder))

    def _take(self, folder: Path) -> None:
        info = read_folder_info(folder)
        structure = read_deeph_structure(folder)
        matrices = [name for name in MATRIX_FILES if os.path.lexists(folder / name)]
        if not matrices:
            raise DataError("DeepH folder without matrix", where=folder, expected=" or ".join(MATRIX_FILES))
        moments = read_moments(folder, len(structure))
        names = [STRUCTURE_FILE, INFO_FILE, *([] if moments is None else [MOMENTS_FILE]), *matrices]
        counts = {name: check_matrix(folder / name) for name in matrices}
        self.base.attributes.set_many(
            {
                "n_atoms": len(structure),
                "n_pairs": counts[matrices[0]],
                "elements": list(structure.elements),
                "basis": {symbol: list(ls) for symbol, ls in info.elements_orbital_map.items()},
                "spin": info.spin.value,
                "fermi_energy": info.fermi_energy,
                "fermi_energy_units": "eV",
                "files": {name: file_sha256(folder / name) for name in names},
            }
        )
        self._put_files(folder, names)

    def _validate(self) -> bool:
        super()._validate()
        present = set(self.base.repository.list_object_names())
        if not {STRUCTURE_FILE, INFO_FILE} <= present or not present & set(MATRIX_FILES):
            raise ValidationError(f"not a DeepH folder: it holds {sorted(present)}")
        return True

    @property
    def n_atoms(self) -> int:
        """Atoms in the cell."""
        return int(self.base.attributes.get("n_atoms"))

    @property
    def n_pairs(self) -> int:
        """Atom pairs (R, i, j) with a block, both directions counted."""
        return int(self.base.attributes.get("n_pairs"))

    @property
    def elements(self) -> tuple[str, ...]:
        """Element symbols of the structure."""
        return tuple(self.base.attributes.get("elements"))

    @property
    def fermi_energy(self) -> float | None:
        """eV, on the zero of energy of H; None if unknown."""
        found: float | None = self.base.attributes.get("fermi_energy")
        return found

    @property
    def has_hamiltonian(self) -> bool:
        """Whether H is there, not only S."""
        return HAMILTONIAN_FILE in self.base.attributes.get("files")

    @property
    def has_overlap(self) -> bool:
        """Whether S is there."""
        return OVERLAP_FILE in self.base.attributes.get("files")

    def get_structure(self) -> StructureData:
        """The structure in the order of the atoms of H: grouped by element. An unstored node."""
        with self.as_path() as path:
            return from_engine(read_deeph_structure(path))

    def load(self) -> RealSpaceHamiltonian:
        """Everything in memory: the matrices can be large.

        :raises DataError: a file is damaged.
        """
        with self.as_path() as path:
            return read_deeph(path)

    def get_sisl(self) -> Any:
        """The same as `sisl.Hamiltonian`, if sisl is installed (`pip install "aiida-deeph[sisl]"`).

        :raises InputError: it is not.
        :raises DataError: a file is damaged, or H is absent.
        """
        return to_sisl(self.load())
