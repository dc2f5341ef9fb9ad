"""Labelling with OpenMX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from aiida import orm
from aiida.plugins import CalculationFactory
from pydantic import Field

from aiida_deeph.engine.config import Config, parse_config
from aiida_deeph.engine.dft.keywords import flat, grouped
from aiida_deeph.engine.dft.openmx.keywords import checked_keywords
from aiida_deeph.engine.dft.openmx.orbital_name import parse_orbital_name
from aiida_deeph.engine.domain.spin import SpinMode
from aiida_deeph.engine.errors import DeepHError, InputError
from aiida_deeph.workflows.label.base import LabelWorkChain
from aiida_deeph.workflows.openmx_orbitals import find_orbitals, find_pseudo, overlap_of
from aiida_deeph.workflows.openmx_recovery import OpenmxRecoveryMixin

TABLE = Path(__file__).parent.parent / "protocols" / "openmx_orbitals.yaml"
COLUMNS = ("pseudo", "quick", "standard", "precise")
# Inputs `files` are called so, followed by the element.
ORBITALS, PSEUDO = "pao_", "vps_"

OpenmxCalculation = CalculationFactory("deeph.openmx")


def recommended() -> dict[str, dict[str, str]]:
    """Element -> column -> name of its pseudopotential or orbitals, in OpenMX's database of 2019."""
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {symbol: dict(zip(COLUMNS, row, strict=True)) for symbol, row in table.items()}


def recommended_pseudos() -> dict[str, str]:
    """Element -> name of its pseudopotential."""
    return {symbol: row["pseudo"] for symbol, row in recommended().items()}


class OpenmxLabelConfig(Config):
    """What `parameters` of a label hold.

    :param keywords: of OpenMX's input, e.g. `{scf: {XcType: GGA-PBE, Mixing.Type: Simple}}`.
    :param basis: file and shells of each element, e.g. `{C: C6.0-s2p2d1}`.
    :param spin_orbit: needs noncollinear spins.
    :param moments: initial spin moment by kind, Bohr magnetons: along z, or `[x, y, z]`.
    """

    keywords: dict[str, Any] = Field(default_factory=dict)
    basis: dict[str, str] = Field(default_factory=dict)
    spin: SpinMode = SpinMode.NONE
    spin_orbit: bool = False
    moments: dict[str, float | tuple[float, float, float]] | None = None


class OpenmxLabelWorkChain(OpenmxRecoveryMixin, LabelWorkChain):
    """Label a structure with OpenMX; `openmx.scfout` stays in the remote folder."""

    _process_class = OpenmxCalculation
    _protocol = "label_openmx"
    plugin = "deeph.openmx"
    reader = "openmx"
    raw_files = ("openmx.scfout", "openmx.out")

    @classmethod
    def _validate(cls, inputs: Mapping[str, Any], namespace: Any) -> str | None:
        message = super()._validate(inputs, namespace)
        if message is not None or "parameters" not in inputs:
            return message
        try:
            settings = parse_config(OpenmxLabelConfig, inputs["parameters"].get_dict(), "parameters")
            checked_keywords(settings.keywords, "parameters.keywords")
            if "structure" in inputs:
                files_of(inputs.get("files", {}), settings, inputs["structure"].get_symbols_set())
        except DeepHError as error:
            return str(error)
        return None

    @classmethod
    def missing_elements(cls, symbols: set[str], parameters: Mapping[str, Any]) -> list[str]:
        """Elements without orbitals in `basis`."""
        return sorted(symbols - set(parameters.get("basis", {})))

    @classmethod
    def complete_parameters(cls, parameters: dict[str, Any], symbols: set[str]) -> dict[str, Any]:
        """`size` of the protocol as orbitals of each element; those that are given stay."""
        size = parameters.pop("size")
        if size not in COLUMNS[1:]:
            expected = f"one of {', '.join(COLUMNS[1:])}"
            raise InputError("unknown size of the basis", where="label.parameters.size", found=size, expected=expected)
        table = recommended()
        known = {symbol: table[symbol][size] for symbol in sorted(symbols) if symbol in table}
        return {**parameters, "basis": {**known, **parameters.get("basis", {})}}

    @classmethod
    def label_inputs(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As of every code; the files of the basis come from the families that the protocol names.

        :raises InputError: anything that cannot run, or a family that is not installed.
        """
        inputs = super().label_inputs(*args, **kwargs)
        parameters = dict(inputs["parameters"])
        orbitals, pseudos = parameters.pop("orbitals_family"), parameters.pop("pseudos_family")
        settings = parse_config(OpenmxLabelConfig, parameters, "label.parameters")
        files = dict(inputs.get("files") or {})
        for symbol, name in settings.basis.items():
            if f"{ORBITALS}{symbol}" not in files:
                file = parse_orbital_name(name, f"label.parameters.basis.{symbol}").file
                files[f"{ORBITALS}{symbol}"] = find_orbitals(file, orbitals)
            if f"{PSEUDO}{symbol}" not in files:
                files[f"{PSEUDO}{symbol}"] = find_pseudo(symbol, pseudos)
        return {**inputs, "parameters": settings.model_dump(mode="json", exclude_none=True), "files": files}

    @classmethod
    def overlap_basis(cls, parameters: Mapping[str, Any], symbols: set[str]) -> str | dict[str, str]:
        """The same orbitals from a folder of their files.

        :param parameters: of a label, or the settings that the reader of a run recorded.
        """
        names = parameters.get("basis")
        if not names:
            names = {parse_orbital_name(row[0]).element: row[0] for row in parameters["species"].values()}
        return overlap_of({symbol: names[symbol] for symbol in symbols})

    def job_inputs(self) -> dict[str, Any]:
        """Inputs of the calculation."""
        settings = parse_config(OpenmxLabelConfig, self.inputs.parameters.get_dict(), "parameters")
        return {
            **calculation_inputs(settings, self.inputs.get("files", {}), self.inputs.structure),
            "kpoints": self.inputs.kpoints,
            **({"bands_kpoints": self.inputs.bands_kpoints} if "bands_kpoints" in self.inputs else {}),
        }


def calculation_inputs(
    settings: OpenmxLabelConfig, files: Mapping[str, orm.SinglefileData], structure: orm.StructureData
) -> dict[str, Any]:
    """Inputs of OpenmxCalculation but for k-points and code.

    :raises InputError: a file is missing.
    """
    symbols = structure.get_symbols_set()
    orbitals, pseudos = files_of(files, settings, symbols)
    inputs = {
        "structure": structure,
        "parameters": orm.Dict(grouped(flat(settings.keywords))),
        "basis": orm.Dict({symbol: settings.basis[symbol].partition("-")[2] for symbol in sorted(symbols)}),
        "orbitals": orbitals,
        "pseudos": pseudos,
        "spin": orm.Str(settings.spin.value),
        "spin_orbit": orm.Bool(settings.spin_orbit),
    }
    if settings.moments is not None:
        kinds = {kind.name for kind in structure.kinds}
        inputs["moments"] = orm.Dict({kind: value for kind, value in settings.moments.items() if kind in kinds})
    return inputs


def files_of(
    files: Mapping[str, orm.SinglefileData], settings: OpenmxLabelConfig, symbols: set[str]
) -> tuple[dict[str, orm.SinglefileData], dict[str, orm.SinglefileData]]:
    """Orbitals and pseudopotential of each element.

    :raises InputError: one is missing, or the orbitals are not those that the basis names.
    """
    for symbol in sorted(symbols):
        for prefix in (ORBITALS, PSEUDO):
            if f"{prefix}{symbol}" not in files:
                raise InputError("file is missing", where="files", found=f"no {prefix}{symbol}", expected="a node")
        name = parse_orbital_name(settings.basis[symbol], f"parameters.basis.{symbol}").file
        node = files[f"{ORBITALS}{symbol}"]
        if node.filename != f"{name}.pao":
            raise InputError(
                "orbitals are not those of the basis",
                where=f"files.{ORBITALS}{symbol}",
                found=node.filename,
                expected=f"{name}.pao",
            )
    return tuple({s: files[f"{prefix}{s}"] for s in sorted(symbols)} for prefix in (ORBITALS, PSEUDO))  # type: ignore
