"""The model folder without its tensors: `model.json`. The weights (`weights.safetensors`) are read in `nn`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from aiida_deeph.engine.config import Config, parse_config
from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.channels import basis_of_kinds
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.info import read_versioned

FORMAT_VERSION = 1
DESCRIPTION_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"


class ModelDescription(Config):
    """All that is known of a trained network besides its weights.

    :param format_version: of this file.
    :param network: entry in the registry of networks.
    :param architecture: arguments from which the network is built again (irreps strings, numbers): JSON types only.
    :param basis: element symbol -> l of each shell; its key order is the order of the species.
    :param spin: spin mode of the data.
    :param kinds: of the atoms of collinear magnets in both spin channels, see `domain.channels`; else empty.
    :param pair_cutoffs: largest distance of an atom pair in the training data, keys `C-H` (sorted by name), Angstrom.
    :param gauge: `as_computed`, or `mu_removed` if trained on H - mu S.
    :param data: where the training data came from (codes, settings, number of members).
    :param training: the resolved training configuration, the split by member uuid, epochs, seconds, hardware.
    :param metrics: errors in eV, keys say which.
    :param origin: empty for an own training, else where the weights came from.
    :param weights_sha256: hash of the weights file, checked on loading.
    """

    format_version: int = FORMAT_VERSION
    network: str
    architecture: dict[str, Any]
    basis: dict[str, tuple[int, ...]]
    spin: SpinMode
    kinds: tuple[str, ...] = ()
    pair_cutoffs: dict[str, float]
    gauge: Literal["as_computed", "mu_removed"] = "as_computed"
    data: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    origin: dict[str, Any] = Field(default_factory=dict)
    weights_sha256: str = ""

    @property
    def orbital_basis(self) -> OrbitalBasis:
        """The basis as a domain object."""
        return OrbitalBasis(self.basis)

    @property
    def network_basis(self) -> OrbitalBasis:
        """What the network knows as elements: of a collinear magnet the kinds of atoms."""
        return basis_of_kinds(self.orbital_basis, self.kinds) if self.kinds else self.orbital_basis

    @property
    def network_spin(self) -> SpinMode:
        """What the network knows of spin: the channels of a collinear magnet are structures without."""
        return SpinMode.NONE if self.spin is SpinMode.COLLINEAR else self.spin

    def require_elements(self, symbols: tuple[str, ...]) -> None:
        """Refuse a structure with an element that the model was not trained on.

        :raises InputError: naming the elements.
        """
        unknown = [symbol for symbol in dict.fromkeys(symbols) if symbol not in self.basis]
        if unknown:
            raise InputError(
                "element unknown to the model",
                where="structure",
                found=", ".join(unknown),
                expected=f"only {', '.join(self.basis)}",
                remedy="train a model on data that holds these elements",
            )

    def require_kinds(self, kinds: tuple[str, ...]) -> None:
        """Refuse atoms whose moments are unlike all that the model was trained on.

        :param kinds: of the atoms of a collinear magnet, see `domain.channels`.
        :raises InputError: naming them.
        """
        unknown = sorted({*kinds} - {*self.kinds})
        if unknown:
            raise InputError(
                "kinds of atoms unknown to the model",
                where="structure, moments",
                found=", ".join(unknown),
                expected=f"only {', '.join(self.kinds)}: elements with their moment up, down, or none",
                remedy="give moments to those atoms that have them in the training data, or train on such states",
            )


def read_description(folder: Path, check_weights: bool = True) -> ModelDescription:
    """Read `model.json` of a model folder and check the hash of its weights.

    :raises InputError: no model folder, or one of a newer format.
    :raises DataError: the weights are damaged.
    """
    path = folder / DESCRIPTION_FILE
    values = read_versioned(path, "model", "model.json of a trained model", FORMAT_VERSION)
    description = parse_config(ModelDescription, values, path)
    if check_weights:
        weights = folder / WEIGHTS_FILE
        found = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "no file"
        if found != description.weights_sha256:
            raise DataError(
                "weights do not belong to this model",
                where=weights,
                found=f"sha256 {found[:16]}",
                expected=description.weights_sha256[:16],
                remedy="copy the model folder again",
            )
    return description
