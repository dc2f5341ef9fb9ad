"""`info.json` of a DeepH folder: its fields, and what they may be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.errors import DataError, InputError


class FolderInfo(BaseModel):
    """What `info.json` says; keys of other programs are left alone.

    :param elements_orbital_map: element -> l of each shell.
    :param fermi_energy: eV, on the zero of energy of H.
    :param occupation: valence electrons in the cell.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)

    elements_orbital_map: dict[str, list[int]] = Field(min_length=1)
    spinful: bool
    spin_mode: str | None = None
    orthogonal_basis: bool = False
    atoms_quantity: int | None = None
    fermi_energy: float | None = Field(default=None, alias="fermi_energy_eV")
    occupation: float | None = Field(default=None, ge=0)
    pbc: tuple[bool, bool, bool] = (True, True, True)
    metadata: dict[str, Any] = Field(default_factory=dict)

    @field_validator("pbc", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("metadata", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return {} if value is None else value

    @model_validator(mode="after")
    def _consistent(self) -> FolderInfo:
        if self.orthogonal_basis:
            raise ValueError("orthogonal_basis is true: bases without overlap are not supported")
        if self.spin_mode is not None and self.spin_mode not in list(SpinMode):
            raise ValueError(f"spin_mode {self.spin_mode!r} is none of {', '.join(SpinMode)}")
        if self.spinful != (self.spin is not SpinMode.NONE):
            raise ValueError(f"it contradicts itself: spinful {self.spinful}, spin_mode {self.spin.value}")
        return self

    @property
    def spin(self) -> SpinMode:
        """Spin mode; folders of other programs tell only whether there is spin."""
        return SpinMode(self.spin_mode or ("noncollinear" if self.spinful else "none"))

    @property
    def basis(self) -> OrbitalBasis:
        """The basis as a domain object."""
        return OrbitalBasis({symbol: tuple(ls) for symbol, ls in self.elements_orbital_map.items()})

    @classmethod
    def parse(cls, values: dict[str, Any], where: Path) -> FolderInfo:
        """Check the values of a file.

        :raises DataError: naming the first wrong field.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            found = "nothing" if first["type"] == "missing" else repr(first.get("input"))[:80] if field else None
            raise DataError(
                "info.json has a missing or wrong field",
                where=f"{where}, {field}" if field else where,
                found=found,
                expected=first["msg"].removeprefix("Value error, "),
            ) from None


def read_versioned(path: Path, thing: str, expected: str, newest: int) -> dict[str, Any]:
    """A JSON object with a `format_version` that is known here.

    :param thing: that it belongs to, for messages.
    :raises InputError: no such object, or one of a newer format.
    """
    values = read_json_object(path, f"not a {thing} folder", expected)
    version = values.get("format_version")
    if not isinstance(version, int) or version > newest:
        raise InputError(
            f"{thing} of a newer format",
            where=path,
            found=f"format_version {version}",
            expected=f"at most {newest}",
            remedy="update aiida-deeph",
        )
    return values


def read_json_object(path: Path, what: str, expected: str) -> dict[str, Any]:
    """A JSON object.

    :param what: said if there is none.
    :param expected: said as well.
    :raises InputError: no such file, no JSON, or no object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        found = error.strerror if isinstance(error, OSError) else error
        raise InputError(what, where=path, found=found, expected=expected) from None
    if not isinstance(values, dict):
        raise InputError(what, where=path, found=type(values).__name__, expected="a JSON object")
    return values
