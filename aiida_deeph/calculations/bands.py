"""Eigenvalues of a DeepH folder along a path or on a mesh."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from aiida.orm import BandsData, KpointsData, RemoteData, SinglefileData, StructureData

from aiida_deeph.calculations.base import EngineCalculation
from aiida_deeph.calculations.folders import check_one_given, define_folder, stage_folder
from aiida_deeph.calculations.kpoints import check_mesh_or_list, labels_of, mesh_of, points_of
from aiida_deeph.calculations.staging import Staging
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.observables.bands import BandsConfig

OUTPUT = "bands.json"
WAVEFUNCTIONS = "wavefunctions.h5"
PRIMITIVE_FILE = "primitive.xyz"
# Folder in which a job keeps the k-points that it has solved until it ends.
PARTIAL = f"{OUTPUT}.partial"


class BandsCalculation(EngineCalculation):
    """Bands at `kpoints` (list or mesh), or along `kpath` of the parameters.

    With `primitive`, bands of a supercell are unfolded: k-points are those of the primitive cell, and the array
    `spectral_weights` of the bands tells how much of each state belongs there.
    """

    COMMAND = "bands"
    CONFIG = BandsConfig
    FILLED = MappingProxyType(
        {
            "folder": "hamiltonian",
            "kpoints": None,
            "labels": None,
            "mesh": None,
            "unfold": None,
            "wavefunctions_output": None,
            "restart": None,
            "output": None,
        }
    )

    @classmethod
    def define(cls, spec) -> None:
        super().define(spec)
        define_folder(spec, "hamiltonian", "H and S")
        spec.input(
            "kpoints",
            valid_type=KpointsData,
            required=False,
            validator=check_mesh_or_list,
            help="List of points, with labels, or Gamma-centred mesh; not with parameters.kpath.",
        )
        spec.input(
            "primitive",
            valid_type=StructureData,
            required=False,
            help="Primitive cell to unfold a supercell's bands onto.",
        )
        spec.input(
            "restart_folder",
            valid_type=RemoteData,
            required=False,
            help="Folder of a job that was killed: the k-points that it had solved are taken over.",
        )
        spec.input_namespace(
            "share_folders",
            valid_type=RemoteData,
            required=False,
            dynamic=True,
            help="Folders of jobs that solved a share of the k-points (parameters.share): all are joined.",
        )
        spec.output("bands", valid_type=BandsData, required=False, help="Eigenvalues, eV; none of a share.")
        spec.output(
            "wavefunctions",
            valid_type=SinglefileData,
            required=False,
            help="HDF5 file of the coefficients of the states named in parameters.wavefunctions.",
        )

    @classmethod
    def filled(cls, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        return cls.FILLED if parameters.get("kpath") is not None else {**cls.FILLED, "kpoints": ((0.0, 0.0, 0.0),)}

    @classmethod
    def check_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        given = ["kpoints"] if "kpoints" in inputs else []
        given += ["parameters.kpath"] if inputs["parameters"].get_dict().get("kpath") is not None else []
        if len(given) != 1:
            found = " and ".join(given) or "none"
            error = InputError(
                "k-points are unclear", where="inputs", found=found, expected="kpoints or parameters.kpath"
            )
            return str(error)
        return check_one_given(inputs, "hamiltonian")

    def stage(self, staging: Staging) -> dict[str, Any]:
        staging.retrieve(OUTPUT)
        fields: dict[str, Any] = {"folder": stage_folder(staging, self.inputs, "hamiltonian"), "output": OUTPUT}
        if self.inputs.parameters.get_dict().get("wavefunctions"):
            staging.retrieve_for_parser(WAVEFUNCTIONS)
            fields["wavefunctions_output"] = WAVEFUNCTIONS
        if "primitive" in self.inputs:
            fields["unfold"] = staging.write_structure(self.inputs.primitive, PRIMITIVE_FILE)
        if "restart_folder" in self.inputs:
            fields["restart"] = staging.link(self.inputs.restart_folder, "restart", PARTIAL)
        shares = sorted(self.inputs.share_folders.items()) if "share_folders" in self.inputs else []
        if shares:
            linked = [staging.link(folder, f"shares/{name}", PARTIAL) for name, folder in shares]
            fields["restart"] = [*([fields["restart"]] if "restart" in fields else []), *linked]
        if "kpoints" in self.inputs:
            node = self.inputs.kpoints
            mesh = mesh_of(node)
            fields |= {"mesh": mesh} if mesh is not None else {"kpoints": points_of(node), "labels": labels_of(node)}
        return fields
