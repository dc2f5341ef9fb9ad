"""One CalcJob for every observable: its ports, its configuration and its restart follow from the observable itself.

Each registered observable has a class here, made when it is asked for: `bands` is `BandsCalculation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from aiida.orm import ArrayData, BandsData, KpointsData, RemoteData, SinglefileData, StructureData
from aiida.plugins.entry_point import get_entry_point_names

from aiida_deeph.calculations.base import EngineCalculation
from aiida_deeph.calculations.folders import check_one_given, define_folder, stage_folder
from aiida_deeph.calculations.kpoints import check_mesh, check_mesh_or_list, labels_of, mesh_of, points_of
from aiida_deeph.calculations.staging import Staging
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.observables.base import Observable, ObservableConfig
from aiida_deeph.engine.observables.registry import OBSERVABLES, load_observable

KPOINT_FIELDS = ("kpoints", "labels", "mesh")
# Inputs by which jobs go on where others were stopped, or join what others did: a workflow fills them.
CONTINUATION = ("restart_folder", "share_folders")


def output_file(observable: type[Observable]) -> str:
    """File of the result; beside it, until the job ends, stands the folder of what is solved already."""
    return f"{observable.name}.json"


class ObservableCalculation(EngineCalculation):
    """Run `deeph-engine NAME config.json` for a registered observable."""

    OBSERVABLE: ClassVar[type[Observable]]
    CONFIG: ClassVar[type[ObservableConfig]]

    @classmethod
    def define(cls, spec: Any) -> None:
        super().define(spec)
        observable, fields = cls.OBSERVABLE, cls.CONFIG.model_fields
        if f"deeph.{observable.name}" not in get_entry_point_names("aiida.parsers"):
            spec.inputs["metadata"]["options"]["parser_name"].default = "deeph.observable"
        for name in observable.FOLDERS.values():
            define_folder(spec, name, "H and S")
        takes_list = "kpoints" in fields
        if takes_list or "mesh" in fields:
            spec.input(
                "kpoints",
                valid_type=KpointsData,
                required=False,
                validator=check_mesh_or_list if takes_list else check_mesh,
                help="List of points, with labels, or Gamma-centred mesh; not with parameters.kpath."
                if takes_list
                else "Gamma-centred mesh; by default one that fits the cell.",
            )
        for field, name in observable.STRUCTURES.items():
            spec.input(
                name,
                valid_type=StructureData,
                required=fields[field].is_required(),
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
        if observable.ARRAYS:
            spec.output(
                observable.name,
                valid_type=output_type(observable),
                required=False,
                help=f"Arrays of the {observable.title}, with their units; none of a share of the k-points.",
            )
        for name, (asked_by, _) in observable.FILES.items():
            spec.output(name, valid_type=SinglefileData, required=False, help=f"What parameters.{asked_by} ask for.")

    @classmethod
    def filled(cls, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        needs = cls.OBSERVABLE.NEEDS_KPOINTS and parameters.get("kpath") is None
        return {**cls.FILLED, "kpoints": ((0.0, 0.0, 0.0),)} if needs else cls.FILLED

    @classmethod
    def check_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        parameters = inputs["parameters"].get_dict()
        given = ["kpoints"] if "kpoints" in inputs else []
        given += [f"parameters.{name}" for name in ("kpath", "spacing") if parameters.get(name) is not None]
        if len(given) > 1 or (cls.OBSERVABLE.NEEDS_KPOINTS and len(given) != 1):
            found = " and ".join(given) or "none"
            error = InputError(
                "k-points are unclear", where="inputs", found=found, expected="kpoints or parameters.kpath"
            )
            return str(error)
        messages = (check_one_given(inputs, name) for name in cls.OBSERVABLE.FOLDERS.values())
        return next((message for message in messages if message), None)

    def stage(self, staging: Staging) -> dict[str, Any]:
        observable, inputs = self.OBSERVABLE, self.inputs
        result = output_file(observable)
        staging.retrieve(result)
        fields: dict[str, Any] = {"output": result}
        for field, name in observable.FOLDERS.items():
            fields[field] = stage_folder(staging, inputs, name)
        for asked_by, field in observable.FILES.values():
            if inputs.parameters.get_dict().get(asked_by):
                fields[field] = str(self.CONFIG.model_fields[field].default)
                staging.retrieve_for_parser(fields[field])
        for field, name in observable.STRUCTURES.items():
            if name in inputs:
                fields[field] = staging.write_structure(inputs[name], f"{name}.xyz")
        partial = f"{result}.partial"
        if "restart_folder" in inputs:
            fields["restart"] = staging.link(inputs.restart_folder, "restart", partial)
        shares = sorted(inputs.share_folders.items()) if "share_folders" in inputs else []
        if shares:
            linked = [staging.link(folder, f"shares/{name}", partial) for name, folder in shares]
            fields["restart"] = [*([fields["restart"]] if "restart" in fields else []), *linked]
        if "kpoints" in inputs:
            mesh = mesh_of(inputs.kpoints)
            listed = {"kpoints": points_of(inputs.kpoints), "labels": labels_of(inputs.kpoints)} if mesh is None else {}
            fields |= {"mesh": mesh} if mesh is not None else listed
        return fields


def output_type(observable: type[Observable]) -> type[ArrayData]:
    """Node that the arrays of an observable become."""
    return BandsData if observable.IS_BANDS else ArrayData


def class_name(name: str) -> str:
    """Name of the calculation of an observable, as `verdi process list` shows it."""
    return f"{name.title().replace('_', '')}Calculation"


@cache
def observable_calculation(name: str) -> type[ObservableCalculation]:
    """The calculation of a registered observable."""
    observable = load_observable(name)
    fields = observable.Config.model_fields
    filled: dict[str, Any] = {
        **observable.FOLDERS,
        **{
            field: f"{port}.xyz" if fields[field].is_required() else None
            for field, port in observable.STRUCTURES.items()
        },
        **{field: None for _, field in observable.FILES.values()},
        **{field: None for field in KPOINT_FIELDS if field in fields},
        "restart": None,
        "output": None,
    }
    title = observable.title
    attributes = {
        "OBSERVABLE": observable,
        "COMMAND": name,
        "CONFIG": observable.Config,
        "FILLED": filled,
        "__module__": __name__,
        "__doc__": f"{title[:1].upper()}{title[1:]} of a DeepH folder at `kpoints`. {observable.__doc__ or ''}",
    }
    return type(class_name(name), (ObservableCalculation,), attributes)


def __getattr__(name: str) -> Any:
    """The calculation of each observable under its name, for entry points, checkpoints and imports."""
    for observable in OBSERVABLES:
        if class_name(observable) == name:
            return observable_calculation(observable)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
