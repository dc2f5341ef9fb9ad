"""The dataset folder: `manifest.json` beside `members/NAME/` (DeepH folders)."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from aiida_deeph.engine.config import Config, parse_config
from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.moments import Moments
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.deeph import read_deeph
from aiida_deeph.engine.io.files import file_sha256, write_text_atomic
from aiida_deeph.engine.io.info import read_versioned
from aiida_deeph.engine.io.paths import Name, RelativePath, Sha256, inside

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
# Folder of the members' own folders, beside the manifest.
MEMBERS = "members"
# Namespace of member uuids; a constant of the format.
NAMESPACE = uuid.UUID("6e1f0f0e-6a0b-5d59-9a3c-0d2f4c1d7b52")
# Positions closer than this are the same structure, Angstrom.
RESOLUTION = 1e-6


class Member(Config):
    """One labelled structure of a dataset.

    :param name: unique in the dataset.
    :param uuid: made from structure and basis: the same structure has the same uuid in every dataset.
    :param path: its DeepH folder, relative to the manifest.
    :param sha256: hash of each of its files.
    :param n_pairs: atom pairs of H.
    :param fermi_energy: eV, on the zero of energy of the stored H.
    :param group: name of the first member of which it is a copy (moved, turned, repeated, ...): a split keeps them
        together. Empty if it stands alone.
    """

    name: Name
    uuid: str
    path: RelativePath
    sha256: dict[Name, Sha256] = Field(min_length=1)
    n_atoms: int
    n_pairs: int
    fermi_energy: float | None = None
    group: Name | Literal[""] = ""


class Rejected(Config):
    """A structure that did not get in, and why."""

    name: Name
    reason: str


class DatasetManifest(Config):
    """All that is known of a dataset besides its matrices.

    :param members: in the order of the preprocessing.
    :param rejected: members that failed a gate or were duplicates.
    :param basis: element symbol -> l of each shell, union over the members, by atomic number.
    :param kinds: of the atoms of collinear magnets in both spin channels, see `domain.channels`; empty for other data.
    :param pair_cutoffs: largest distance of a pair of H, keys `C-H` (sorted by name), Angstrom.
    :param gauge: `as_computed`, or `mu_removed`: H - mu S is stored.
    :param statistics: sums and extremes over the members; keys name their unit.
    :param source: codes, versions and settings that made the labels, and the configuration of the preprocessing.
    """

    format_version: int = FORMAT_VERSION
    members: tuple[Member, ...] = Field(min_length=1)
    rejected: tuple[Rejected, ...] = ()
    basis: dict[str, tuple[int, ...]]
    spin: SpinMode
    kinds: tuple[str, ...] = ()
    pair_cutoffs: dict[str, float]
    gauge: Literal["as_computed", "mu_removed"] = "as_computed"
    statistics: dict[str, Any] = Field(default_factory=dict)
    source: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _listed_once(self) -> DatasetManifest:
        for field in ("name", "uuid", "path"):
            counts = Counter(getattr(member, field) for member in self.members)
            twice = [value for value, count in counts.items() if count > 1]
            if twice:
                raise ValueError(f"a member is listed twice: {field} {twice[0]}")
        return self

    @property
    def orbital_basis(self) -> OrbitalBasis:
        """The basis as a domain object."""
        return OrbitalBasis(self.basis)

    def member(self, name: str) -> Member:
        """The member of that name.

        :raises InputError: there is none.
        """
        for member in self.members:
            if member.name == name:
                return member
        raise InputError("no such member", where="dataset", found=name, expected="a name in manifest.json")


def member_uuid(structure: Structure, basis: OrbitalBasis, moments: Moments | None = None) -> str:
    """uuid5 of the content: symbols, positions and cell to `RESOLUTION`, periodicity, shells of its elements, and of a
    magnet which magnetic state it is."""
    lengths = np.concatenate([structure.cell, structure.positions]) / RESOLUTION
    head: dict[str, Any] = {
        "symbols": structure.symbols,
        "pbc": structure.pbc,
        "basis": {symbol: basis.shells_of(symbol) for symbol in sorted(structure.elements)},
    }
    if moments is not None and moments.is_magnetic:
        # Converged moments differ a little from run to run.
        head["moments"] = (np.round(moments.state, 0 if moments.nominal is None else 2) + 0.0).tolist()
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    digest.update(np.rint(lengths).astype("<i8").tobytes())
    return str(uuid.uuid5(NAMESPACE, digest.hexdigest()))


def file_hashes(folder: Path) -> dict[str, str]:
    """sha256 of each file of a folder."""
    return {path.name: file_sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}


def write_manifest(folder: Path, manifest: DatasetManifest) -> None:
    """Write `manifest.json` in one step."""
    write_text_atomic(Path(folder) / MANIFEST_FILE, manifest.model_dump_json(indent=2) + "\n")


def read_manifest(folder: Path) -> DatasetManifest:
    """Read `manifest.json` of a dataset folder.

    :raises InputError: no dataset folder, or one of a newer format.
    """
    path = Path(folder) / MANIFEST_FILE
    values = read_versioned(path, "dataset", "manifest.json of `deeph-engine preprocess`", FORMAT_VERSION)
    return parse_config(DatasetManifest, values, path)


def load_member(folder: Path, member: Member, verify: bool = True) -> RealSpaceHamiltonian:
    """Read a member of the dataset in `folder`.

    :param verify: compare the hashes of its files first.
    :raises DataError: a file is missing or changed.
    """
    path = member_folder(folder, member)
    if verify:
        for name, expected in member.sha256.items():
            file = inside(path, name)
            found = file_sha256(file) if file.is_file() else "no file"
            if found != expected:
                raise DataError(
                    "file of a member changed",
                    where=path / name,
                    found=f"sha256 {found[:16]}",
                    expected=expected[:16],
                    remedy="preprocess the dataset again",
                )
    return read_deeph(path)


def member_folder(folder: Path, member: Member) -> Path:
    """The DeepH folder of a member of the dataset in `folder`.

    Its first folder may be a link, since jobs find the members of another job so; from there on nothing leads outside.

    :raises DataError: its path leads outside.
    """
    first, *below = PurePosixPath(member.path).parts
    return inside(Path(folder) / first, *below)


def merged_source(metadata: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Metadata of many members as one: a value they share as it is, else the list of distinct values."""
    merged: dict[str, Any] = {}
    for key in sorted({key for one in metadata for key in one}):
        values = [one[key] for one in metadata if key in one]
        distinct = list({json.dumps(value, sort_keys=True): value for value in values}.values())
        merged[key] = distinct[0] if len(distinct) == 1 else distinct
    return merged
