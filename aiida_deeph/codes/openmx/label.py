"""Labelling with OpenMX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aiida import orm
from aiida.plugins import CalculationFactory

from aiida_deeph.codes.lcao import LcaoBaseWorkChain, LcaoLabelWorkChain
from aiida_deeph.codes.openmx.families import COLUMNS, recommended
from aiida_deeph.engine.dft.openmx.band_file import parse_bands
from aiida_deeph.engine.dft.openmx.code import OPENMX, RECORD
from aiida_deeph.engine.dft.openmx.keywords import TABLE as KEYWORDS
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.orbitals.pao import parse_orbital_name
from aiida_deeph.parsers.bandsdata import make_bands
from aiida_deeph.processes.orbitals import ElementFiles, overlap_of

# Mixing that is more careful needs at least so many cycles.
MIN_CYCLES = 100

OpenmxCalculation = CalculationFactory("deeph.openmx")


class OpenmxLabelWorkChain(LcaoLabelWorkChain):
    """Label a structure with OpenMX; `openmx.scfout` stays in the remote folder.

    `basis` of the parameters names file and shells of each element, e.g. `{C: C6.0-s2p2d1}`. OpenMX writes its density
    when the SCF loop is over, converged or not; its residual is NormRD.
    """

    _process_class = OpenmxCalculation
    _protocol_file = Path(__file__).parent / "protocol.yaml"
    record = RECORD
    files = ElementFiles("pao_", "vps_", "vps")
    quick = MappingProxyType({"scf": {"energycutoff": 80.0, "criterion": 1e-6}})

    bands_suffix = ".Band"

    @classmethod
    def read_bands(cls, text: str, cell: Any) -> orm.BandsData:
        """See the base class."""
        bands = parse_bands(text)
        energies, fermi_energy = bands.energies * OPENMX.hartree, bands.fermi_energy * OPENMX.hartree
        return make_bands(energies, bands.kpoints, cell=cell, labels=bands.points_of_labels, fermi_energy=fermi_energy)

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
    def orbitals_file(cls, symbol: str, basis: Any) -> str:
        """C6.0 of C6.0-s2p2d1."""
        return parse_orbital_name(str(basis), f"label.parameters.basis.{symbol}").file

    @classmethod
    def basis_inputs(cls, basis: Mapping[str, Any]) -> dict[str, orm.Data]:
        """The shells alone."""
        return {"basis": orm.Dict({symbol: name.partition("-")[2] for symbol, name in basis.items()})}

    @classmethod
    def overlap_basis(cls, parameters: Mapping[str, Any], symbols: set[str]) -> str | dict[str, str]:
        """The same orbitals from a folder of their files.

        :param parameters: of a label, or the settings that the reader of a run recorded.
        """
        names = parameters.get("basis")
        if not names:
            names = {parse_orbital_name(row[0]).element: row[0] for row in parameters["species"].values()}
        return overlap_of("openmx", {symbol: names[symbol] for symbol in symbols})

    def improve_scf(self, parameters: dict[str, Any], attempt: int) -> dict[str, Any] | None:
        """More cycles and a longer history for Pulay's mixing; then smaller steps before it begins, and 600 K."""
        if attempt > 2:
            return None

        def value(name: str, default: float) -> Any:
            return KEYWORDS.value(parameters, name, default)

        changes = {
            "scf.maxIter": max(2 * value("scf.maxIter", 40), MIN_CYCLES),
            "scf.Mixing.Type": "Rmm-Diisk",
            "scf.Max.Mixing.Weight": min(value("scf.Max.Mixing.Weight", 0.4), 0.1 / attempt),
            "scf.Mixing.History": max(value("scf.Mixing.History", 5), 30),
        }
        if attempt == 2:
            changes |= {
                "scf.Init.Mixing.Weight": min(value("scf.Init.Mixing.Weight", 0.3), 0.01),
                "scf.Min.Mixing.Weight": min(value("scf.Min.Mixing.Weight", 0.001), 0.001),
                "scf.Mixing.StartPulay": max(value("scf.Mixing.StartPulay", 6), 20),
                "scf.ElectronicTemperature": max(value("scf.ElectronicTemperature", 300.0), 600.0),
            }
        return KEYWORDS.replaced(parameters, changes)


class OpenmxBaseWorkChain(LcaoBaseWorkChain):
    """Run OpenMX; an SCF that does not converge is mixed more carefully, one that ran out of time gets more of it."""

    _process_class = OpenmxCalculation
    _protocol_file = OpenmxLabelWorkChain._protocol_file
    label_workchain, namespace = OpenmxLabelWorkChain, "openmx"
    improve_scf = OpenmxLabelWorkChain.improve_scf
