"""Bands and every other observable of H(R), S(R)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, WorkChain, while_
from aiida.plugins import DataFactory

from aiida_deeph.calculations.kpoints import mesh_of, points_of
from aiida_deeph.calculations.observable import CONTINUATION, observable_calculation, output_type
from aiida_deeph.engine.domain.kpoints import mesh_for_spacing
from aiida_deeph.engine.observables.registry import OBSERVABLES, load_observable
from aiida_deeph.processes.builder import filled_builder, job_inputs
from aiida_deeph.processes.ports import expose_inputs, value_input
from aiida_deeph.processes.protocol import ProtocolMixin
from aiida_deeph.processes.recovery import NO_ROOM, pause_for_room
from aiida_deeph.processes.resumable import ResumableMixin
from aiida_deeph.workflows.band_functions import band_kpoints, check_path

HamiltonianData = DataFactory("deeph.hamiltonian")
FOLDER_INPUTS = ("hamiltonian", "hamiltonian_folder")
BANDS = "bands"
OTHERS = tuple(name for name in OBSERVABLES if name != BANDS)
# Killed by the scheduler or by who knows what: the k-points that were done are not lost.
KILLED = (120, 140, 400)
MAX_RESTARTS = 4


def positive(node: orm.Int, _: Any) -> str | None:
    """A number of k-points is at least one."""
    return None if node.value >= 1 else f"at least 1, found {node.value}"


def share_name(name: str, number: int) -> str:
    """Name of a share of the k-points of an observable in the context and on its link."""
    return f"{name}_share_{number:03d}"


def output_types(name: str) -> dict[str, type[orm.Data]]:
    """Outputs of an observable beside the bands: its arrays and files, if it has some, and its parameters."""
    observable = load_observable(name)
    arrays: dict[str, type[orm.Data]] = {name: output_type(observable)} if observable.ARRAYS else {}
    files: dict[str, type[orm.Data]] = dict.fromkeys(observable.FILES, orm.SinglefileData)
    return {**arrays, **files, f"{name}_parameters": orm.Dict}


def can_go_on(node: orm.ProcessNode) -> bool:
    """Whether a job was stopped and left a folder to go on from."""
    return node.exit_status in KILLED and "remote_folder" in node.outputs


class BandsWorkChain(ProtocolMixin, ResumableMixin, WorkChain):
    """k-points, bands, and every other observable whose namespace is filled.

    k-points of the bands: `kpoints` as they are; else along `kpath`; else along the lattice's own path through its
    special points.
    """

    _protocol_file = Path(__file__).parent / "protocols" / "bands.yaml"

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        spec.input(
            "hamiltonian", valid_type=HamiltonianData, required=False, help="H(R) and S(R), or `hamiltonian_folder`."
        )
        spec.input(
            "hamiltonian_folder", valid_type=orm.RemoteData, required=False, help="The same where a job left it."
        )
        spec.input(
            "structure",
            valid_type=orm.StructureData,
            required=False,
            help="Structure of which the path is taken, if `hamiltonian_folder` is given without `kpoints`.",
        )
        spec.input(
            "kpoints", valid_type=orm.KpointsData, required=False, help="List of k-points, or a Gamma-centred mesh."
        )
        value_input(spec, "kpath", orm.Str, "e.g. `G-K-M-G` or `G-X|Y-G`.")
        value_input(spec, "points_per_segment", orm.Int, "Along the path.", 40)
        value_input(
            spec,
            "max_kpoints_per_job",
            orm.Int,
            "Split the k-points over jobs of at most so many; the bands are those of one job.",
            validator=positive,
        )
        excluded = (*FOLDER_INPUTS, *CONTINUATION)
        expose_inputs(spec, observable_calculation(BANDS), namespace=BANDS, exclude=(*excluded, "kpoints"))
        for name in OTHERS:
            optional = {"required": False, "populate_defaults": False, "help": f"Empty: no {name}."}
            job = observable_calculation(name)
            expose_inputs(spec, job, namespace=name, exclude=excluded, namespace_options=optional)
        spec.inputs.validator = cls._validate
        spec.outline(cls.choose_kpoints, while_(cls.has_work)(cls.run_jobs), cls.results)
        spec.output("bands", valid_type=orm.BandsData, help="Eigenvalues, eV.")
        spec.output(
            "wavefunctions", valid_type=orm.SinglefileData, required=False, help="Coefficients of chosen states."
        )
        for name in OTHERS:
            for label, kind in output_types(name).items():
                spec.output(label, valid_type=kind, required=False, help=f"Of the {load_observable(name).title}.")
        spec.output("output_parameters", valid_type=orm.Dict, help="Fermi level, gap, solver, seconds of the bands.")
        spec.default_output_node = "output_parameters"
        spec.exit_code(310, "ERROR_BANDS_FAILED", message="The bands failed with exit status {status}: {message}")
        spec.exit_code(320, "ERROR_OBSERVABLE_FAILED", message="{title} failed with exit status {status}: {message}")

    @classmethod
    def _validate(cls, inputs: Mapping[str, Any], namespace: Any) -> str | None:
        if not any(name in namespace for name in FOLDER_INPUTS):
            return None
        given = [name for name in FOLDER_INPUTS if name in inputs]
        if len(given) != 1:
            return f"give one of hamiltonian and hamiltonian_folder, found {' and '.join(given) or 'none'}"
        if "kpoints" in inputs and "kpath" in inputs:
            return "give kpoints or kpath, not both"
        known = {"kpoints", "structure"} & set(inputs) or "primitive" in inputs.get("bands", {})
        if given == ["hamiltonian_folder"] and not known:
            return "give the structure, or kpoints, with hamiltonian_folder: the path depends on the lattice"
        if "kpath" not in inputs:
            return None
        structure = inputs.get("bands", {}).get("primitive") or inputs.get("structure")
        return check_path(structure or inputs["hamiltonian"].get_structure(), inputs["kpath"], "kpath")

    def choose_kpoints(self) -> None:
        """k-points of the bands."""
        if "kpoints" in self.inputs:
            self.ctx.kpoints = self.inputs.kpoints
            return
        # Unfolded bands follow the path of the primitive cell.
        structure = self.inputs.bands.get("primitive") or self.structure()
        path = self.inputs.kpath.value if "kpath" in self.inputs else None
        settings = orm.Dict({"path": path, "points_per_segment": self.inputs.points_per_segment.value})
        self.ctx.kpoints = self.call_once(band_kpoints, "kpoints", structure=structure, settings=settings)

    def wanted(self) -> list[str]:
        """Observables that are computed: those of molecules of a molecule alone, those of crystals not of one."""
        structure = self.structure()
        molecule = None if structure is None else not any(structure.pbc)
        kinds = {name: load_observable(name).OF_MOLECULES for name in OTHERS if self.inputs.get(name)}
        return [BANDS, *(name for name, kind in kinds.items() if kind in (None, molecule))]

    def structure(self) -> orm.StructureData | None:
        """The structure, if it is known here."""
        if "structure" not in self.inputs and "hamiltonian" in self.inputs:
            return self.inputs.hamiltonian.get_structure()
        return self.inputs.get("structure")

    def n_kpoints(self, name: str) -> int:
        """k-points of an observable before symmetry; 1 if the engine chooses them."""
        inputs = self.inputs[name]
        node = self.ctx.kpoints if name == BANDS else inputs.get("kpoints")
        parameters = inputs.parameters.get_dict() if "parameters" in inputs else {}
        mesh = mesh_of(node) if node is not None else parameters.get("mesh")
        structure = self.structure()
        if node is None and mesh is None and parameters.get("spacing") and structure is not None:
            mesh = mesh_for_spacing(structure.cell, structure.pbc, parameters["spacing"])
        if mesh is not None:
            return math.prod(mesh)
        return len(points_of(node)) if node is not None else 1

    def n_shares(self, name: str) -> int:
        """Jobs over which the k-points of an observable are split."""
        if "max_kpoints_per_job" not in self.inputs:
            return 1
        return math.ceil(self.n_kpoints(name) / self.inputs.max_kpoints_per_job.value)

    def shares(self, name: str) -> list[str]:
        """Names of the shares of an observable; none if one job does it all."""
        count = self.n_shares(name)
        return [share_name(name, n) for n in range(count)] if count > 1 else []

    def due(self, name: str) -> list[str]:
        """Jobs of an observable that shall run now: its shares, those that were stopped, and then the whole."""
        shares = self.shares(name)
        missing = [key for key in shares if key not in self.ctx]
        if missing:
            return missing
        stopped = [key for key in (*shares, name) if key in self.ctx and self._goes_on(key)]
        if stopped or name in self.ctx or not all(self.ctx[key].is_finished_ok for key in shares):
            return stopped
        return [name]

    def has_work(self) -> bool:
        """Whether any job is left to run."""
        return any(self.due(name) for name in self.wanted())

    def _goes_on(self, key: str) -> bool:
        """Whether a job that ended shall be followed by another; having waited for room is no restart."""
        restarts = self.ctx.get("tries", {}).get(key, 0) - len(self.ctx.get("waited", {}).get(key, ()))
        return self.ctx[key].exit_status in NO_ROOM or (can_go_on(self.ctx[key]) and restarts < MAX_RESTARTS)

    def run_jobs(self) -> ToContext | None:
        """All jobs that shall run now, side by side; none before there is room on a machine that had none."""
        due = {key: name for name in self.wanted() for key in self.due(name)}
        waited = {**self.ctx.get("waited", {})}
        ended = [(key, self.ctx[key]) for key in due if key in self.ctx and self.ctx[key].exit_status in NO_ROOM]
        for key, node in ended:
            if node.pk not in waited.get(key, ()):
                waited[key] = [*waited.get(key, ()), node.pk]
                pause_for_room(self, node)
        if waited != self.ctx.get("waited", {}):
            self.ctx.waited = waited
            return None
        return ToContext(**{key: self._submit(name, key) for key, name in due.items()})

    def _submit(self, name: str, key: str) -> orm.ProcessNode:
        """A job of an observable: one of its shares, or the whole, which joins them; goes on where one was stopped."""
        job = observable_calculation(name)
        inputs = {**self.exposed_inputs(job, namespace=name), **self.folder()}
        title, shares, link = job.OBSERVABLE.title, self.shares(name), key
        description = title
        if name == BANDS:
            inputs["kpoints"] = self.ctx.kpoints
        if key != name:
            number = shares.index(key)
            parameters = inputs["parameters"].get_dict() if "parameters" in inputs else {}
            inputs["parameters"] = orm.Dict({**parameters, "share": [number, len(shares)]})
            description = f"{title} at share {number + 1} of {len(shares)} of the k-points"
        elif shares:
            inputs["share_folders"] = {share: self.ctx[share].outputs.remote_folder for share in shares}
            description = f"{title} of {len(shares)} jobs joined"
        if key in self.ctx:
            tries = {**self.ctx.get("tries", {})}
            tries[key] = tries.get(key, 0) + 1
            self.ctx.tries = tries
            if "remote_folder" in self.ctx[key].outputs:
                inputs["restart_folder"] = self.ctx[key].outputs.remote_folder
            link = f"{key}_{tries[key]:02d}"
            description = f"the k-points that are left, after exit status {self.ctx[key].exit_status}"
        return self.submit_once(job, inputs, name=link, label=name, description=description)

    def folder(self) -> dict[str, orm.Data]:
        """H and S, as a node or where they lie."""
        return {name: self.inputs[name] for name in FOLDER_INPUTS if name in self.inputs}

    def job_of(self, name: str) -> orm.ProcessNode:
        """The job that gives an observable, or the share that failed."""
        failed = [self.ctx[key] for key in self.shares(name) if not self.ctx[key].is_finished_ok]
        return failed[0] if failed else self.ctx[name]

    def results(self) -> ExitCode | None:
        """Attach what came out; an observable that failed does not take the bands away."""
        failed: ExitCode | None = None
        for name in self.wanted()[1:]:
            node = self.job_of(name)
            if not node.is_finished_ok:
                title = f"The {load_observable(name).title}"
                failed = self.failure(self.exit_codes.ERROR_OBSERVABLE_FAILED, node, title=title)
                continue
            for label in output_types(name):
                source = "output_parameters" if label == f"{name}_parameters" else label
                if source in node.outputs:
                    self.out(label, node.outputs[source])
        node = self.job_of(BANDS)
        if not node.is_finished_ok:
            return self.failure(self.exit_codes.ERROR_BANDS_FAILED, node)
        self.attach(node, BANDS, "output_parameters", "wavefunctions")
        return failed

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        hamiltonian: orm.Data,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        kpath: str | None = None,
        kpoints: orm.KpointsData | None = None,
    ) -> ProcessBuilder:
        """Builder with the inputs of a protocol; an observable of the protocol is left out if the
        overrides hold null in its place.

        :param hamiltonian: HamiltonianData, or the RemoteData of a job that left one.
        """
        values = cls.bands_inputs(code, protocol, overrides, options)
        name = "hamiltonian_folder" if isinstance(hamiltonian, orm.RemoteData) else "hamiltonian"
        return filled_builder(
            cls, {**values, name: hamiltonian, "kpath": kpath or values.get("kpath"), "kpoints": kpoints}
        )

    @classmethod
    def bands_inputs(
        cls,
        code: orm.AbstractCode,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        where: str = "overrides",
    ) -> dict[str, Any]:
        """Inputs of a protocol as nested plain values, without the Hamiltonian."""
        inputs = cls.get_protocol_inputs(protocol, overrides, where)
        jobs = {name: job_inputs(code, inputs[name], options) for name in OBSERVABLES if inputs.get(name) is not None}
        return {**{key: value for key, value in inputs.items() if key not in OBSERVABLES}, **jobs}
