"""S(R) of any structure without a DFT run."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from aiida.orm import Bool, Dict, SinglefileData, StructureData, to_aiida_type

from aiida_deeph.calculations.base import EngineCalculation
from aiida_deeph.calculations.staging import STRUCTURE_FILE, Staging
from aiida_deeph.calculations.validation import check_elements, check_structure
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.data.structure import MOMENTS_OF_KINDS, atom_moments, atom_symbols
from aiida_deeph.engine.dft.base import records
from aiida_deeph.engine.dft.record import BASIS_FILE
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.deeph import INFO_FILE, OVERLAP_FILE
from aiida_deeph.engine.io.deeph import STRUCTURE_FILE as POSCAR_FILE
from aiida_deeph.engine.io.model import DESCRIPTION_FILE
from aiida_deeph.engine.io.moments import MOMENTS_FILE
from aiida_deeph.engine.overlap.basis import is_numeric
from aiida_deeph.engine.overlap.config import OverlapConfig

OUTPUT = "overlap"
# Folder of the job in which files of numerical orbitals lie, as the basis names it.
ORBITALS = "orbitals"


class OverlapCalculation(EngineCalculation):
    """The overlap stays in the remote folder as a DeepH folder, which predict links; `retrieve` makes a node of it too.

    With `model`, the pairs are those within the model's pair cutoffs.
    """

    COMMAND = "overlap"
    CONFIG = OverlapConfig
    FILLED = MappingProxyType({"structure": STRUCTURE_FILE, "output": None, "model": None, "magnetic_moments": None})
    FOLDER = OUTPUT

    @classmethod
    def define(cls, spec: Any) -> None:
        super().define(spec)
        spec.input("structure", valid_type=StructureData, validator=check_structure, help="Any structure.")
        spec.input("model", valid_type=DeepHModelData, required=False, help="Model whose pair cutoffs are taken.")
        spec.input(
            "basis_file",
            valid_type=SinglefileData,
            required=False,
            help="File of basis sets, uploaded under its name, for `basis: CODE:FILENAME:NAME`.",
        )
        spec.input_namespace(
            "orbitals",
            valid_type=SinglefileData,
            dynamic=True,
            required=False,
            help="Files of numerical orbitals by element, uploaded under their names, for `CODE:orbitals[:NAME]`.",
        )
        spec.input(
            "magnetic_moments",
            valid_type=Dict,
            serializer=to_aiida_type,
            required=False,
            help=f"Which magnetic state a model of magnets predicts. {MOMENTS_OF_KINDS}",
        )
        spec.input("retrieve", valid_type=Bool, default=lambda: Bool(False), help="Whether to bring S back as a node.")
        spec.output("overlap", valid_type=HamiltonianData, required=False, help="The overlap, with `retrieve`.")

    @classmethod
    def check_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        symbols = tuple(dict.fromkeys(atom_symbols(inputs["structure"])))
        parameters = inputs["parameters"].get_dict()
        return (
            check_basis(parameters["basis"], symbols)
            or check_basis_file(parameters["basis"], inputs.get("basis_file"))
            or check_orbitals(parameters["basis"], inputs.get("orbitals", {}), symbols)
            or check_moments(inputs)
            or ((check_range(parameters) or check_elements(inputs["model"], symbols)) if "model" in inputs else None)
        )

    def stage(self, staging: Staging) -> dict[str, Any]:
        fields: dict[str, Any] = {"structure": staging.write_structure(self.inputs.structure), "output": OUTPUT}
        if "model" in self.inputs:
            # its description is enough: basis and pair cutoffs stand there
            staging.copy(self.inputs.model, f"model/{DESCRIPTION_FILE}", DESCRIPTION_FILE)
            fields["model"] = "model"
        if "basis_file" in self.inputs:
            staging.copy(self.inputs.basis_file, self.inputs.basis_file.filename, self.inputs.basis_file.filename)
        for _, file in sorted(self.inputs.get("orbitals", {}).items()):
            staging.copy(file, f"{ORBITALS}/{file.filename}", file.filename)
        if "magnetic_moments" in self.inputs:
            given = self.inputs.magnetic_moments.get_dict()
            fields["magnetic_moments"] = atom_moments(self.inputs.structure, given, "magnetic_moments")
        staging.retrieve(f"{OUTPUT}/{INFO_FILE}")
        if self.inputs.retrieve.value:
            moments = [MOMENTS_FILE] if "magnetic_moments" in self.inputs else []
            names = (POSCAR_FILE, INFO_FILE, *moments, OVERLAP_FILE)
            staging.retrieve_for_parser(*(f"{OUTPUT}/{name}" for name in names))
        return fields


def check_moments(inputs: Mapping[str, Any]) -> str | None:
    """Moments are those of kinds of the structure; a model of magnets needs them."""
    if "magnetic_moments" in inputs:
        try:
            atom_moments(inputs["structure"], inputs["magnetic_moments"].get_dict(), "magnetic_moments")
        except InputError as error:
            return str(error)
    elif "model" in inputs and inputs["model"].base.attributes.get("spin") == SpinMode.COLLINEAR.value:
        return str(
            InputError(
                "moments of a magnet are needed",
                where="magnetic_moments",
                found="none",
                expected="a moment for each kind of atom, which tells the magnetic states of the model apart",
            )
        )
    return None


def check_basis(basis: str | Mapping[str, str], symbols: tuple[str, ...]) -> str | None:
    """A basis by element names every element of the structure."""
    missing = [] if isinstance(basis, str) else [symbol for symbol in symbols if symbol not in basis]
    if not missing:
        return None
    return str(
        InputError(
            "element without basis",
            where="structure",
            found=", ".join(missing),
            expected=f"one of {', '.join(basis)}",
            remedy="name a basis for each element in parameters.basis",
        )
    )


def check_basis_file(basis: str | Mapping[str, str], file: SinglefileData | None) -> str | None:
    """Files named in the basis are the one that is uploaded."""
    names = [basis] if isinstance(basis, str) else list(basis.values())
    of_files = [code for code, record in records().items() if record.basis == BASIS_FILE]
    words = [name.split(":") for name in names if name.count(":") >= 2]
    wanted = sorted({file for code, file, *_ in words if code in of_files})
    given = [file.filename] if file is not None else []
    if set(wanted) <= set(given):
        return None
    return str(
        InputError(
            "basis file is not given",
            where="parameters.basis",
            found=", ".join(wanted),
            expected=", ".join(given) or "no file, since the input basis_file is absent",
            remedy="give the file as the input basis_file and name it in the basis as it is named there",
        )
    )


def check_orbitals(
    basis: str | Mapping[str, str], files: Mapping[str, SinglefileData], symbols: tuple[str, ...]
) -> str | None:
    """Numerical orbitals come as files, one for each element, never from a folder of some host."""
    names = {symbol: basis if isinstance(basis, str) else basis[symbol] for symbol in symbols}
    numeric = [symbol for symbol, name in names.items() if is_numeric(name)]
    if not numeric and not files:
        return None
    elsewhere = sorted({names[symbol] for symbol in numeric if names[symbol].split(":")[1] != ORBITALS})
    missing = [symbol for symbol in numeric if symbol not in files]
    if numeric and not elsewhere and not missing:
        return None
    return str(
        InputError(
            "files of orbitals do not fit the basis",
            where="inputs parameters.basis and orbitals",
            found=f"basis {', '.join(elsewhere or sorted(set(names.values())))}, files of {', '.join(files) or 'none'}",
            expected=f"basis CODE:{ORBITALS}, and a file of each of {', '.join(symbols)}",
            remedy="give the files as the input namespace orbitals",
        )
    )


def check_range(parameters: Mapping[str, Any]) -> str | None:
    """The range comes from the model or from the parameters, not from both."""
    both = [name for name in ("cutoff", "pair_cutoffs") if parameters.get(name) is not None]
    if not both:
        return None
    return str(
        InputError("two ranges", where="parameters", found=f"{both[0]} and the input model", expected="one of them")
    )
