"""Bands and density of states of H(R), S(R)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, WorkChain, if_, while_
from aiida.plugins import CalculationFactory, DataFactory

from aiida_deeph.calculations.kpoints import mesh_of, points_of
from aiida_deeph.processes.builder import filled_builder, job_inputs
from aiida_deeph.processes.ports import expose_inputs
from aiida_deeph.processes.protocol import ProtocolMixin
from aiida_deeph.processes.resumable import ResumableMixin
from aiida_deeph.workflows.band_functions import band_kpoints

BandsCalculation = CalculationFactory("deeph.bands")
DosCalculation = CalculationFactory("deeph.dos")
HamiltonianData = DataFactory("deeph.hamiltonian")
FOLDER_INPUTS = ("hamiltonian", "hamiltonian_folder")
# Killed by the scheduler or by who knows what: the k-points that were done are not lost.
KILLED = (120, 140, 400)
MAX_RESTARTS = 4


def positive(node: orm.Int, _: Any) -> str | None:
    """A number of k-points is at least one."""
    return None if node.value >= 1 else f"at least 1, found {node.value}"


def share_name(number: int) -> str:
    """Name of a share of the k-points in the context and on its link."""
    return f"share_{number:03d}"


def can_go_on(node: orm.ProcessNode) -> bool:
    """Whether a job was stopped and left a folder to go on from."""
    return node.exit_status in KILLED and "remote_folder" in node.outputs


class BandsWorkChain(ProtocolMixin, ResumableMixin, WorkChain):
    """k-points, bands, and the density of states if the namespace `dos` is filled.

    k-points: `kpoints` as they are; else along `kpath`; else along the lattice's own path through its special points.
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
        spec.input(
            "kpath",
            valid_type=orm.Str,
            serializer=orm.to_aiida_type,
            required=False,
            help="e.g. `G-K-M-G` or `G-X|Y-G`.",
        )
        spec.input(
            "points_per_segment",
            valid_type=orm.Int,
            serializer=orm.to_aiida_type,
            default=lambda: orm.Int(40),
            help="Along the path.",
        )
        spec.input(
            "max_kpoints_per_job",
            valid_type=orm.Int,
            serializer=orm.to_aiida_type,
            required=False,
            validator=positive,
            help="Split the k-points over jobs of at most so many; the bands are those of one job.",
        )
        excluded = (*FOLDER_INPUTS, "kpoints", "restart_folder", "share_folders")
        expose_inputs(spec, BandsCalculation, namespace="bands", exclude=excluded)
        spec.expose_inputs(
            DosCalculation,
            namespace="dos",
            exclude=FOLDER_INPUTS,
            namespace_options={"required": False, "populate_defaults": False},
        )
        spec.inputs.validator = cls._validate
        spec.outline(
            cls.choose_kpoints,
            if_(cls.is_split)(cls.run_shares, while_(cls.share_was_killed)(cls.continue_shares)),
            cls.run_jobs,
            while_(cls.was_killed)(cls.continue_bands),
            cls.results,
        )
        spec.output("bands", valid_type=orm.BandsData, help="Eigenvalues, eV.")
        spec.output(
            "wavefunctions", valid_type=orm.SinglefileData, required=False, help="Coefficients of chosen states."
        )
        spec.output("dos", valid_type=orm.ArrayData, required=False, help="Density of states.")
        spec.output("output_parameters", valid_type=orm.Dict, help="Fermi level, gap, solver, seconds.")
        spec.output("dos_parameters", valid_type=orm.Dict, required=False, help="The same of the density of states.")
        spec.default_output_node = "output_parameters"
        spec.exit_code(310, "ERROR_BANDS_FAILED", message="The bands failed with exit status {status}: {message}")
        spec.exit_code(
            320, "ERROR_DOS_FAILED", message="The density of states failed with exit status {status}: {message}"
        )

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
        return None

    def choose_kpoints(self) -> None:
        """k-points of the bands."""
        if "kpoints" in self.inputs:
            self.ctx.kpoints = self.inputs.kpoints
            return
        # Unfolded bands follow the path of the primitive cell.
        structure = self.inputs.bands.get("primitive") or self.inputs.get("structure")
        structure = structure or self.inputs.hamiltonian.get_structure()
        path = self.inputs.kpath.value if "kpath" in self.inputs else None
        settings = orm.Dict({"path": path, "points_per_segment": self.inputs.points_per_segment.value})
        self.ctx.kpoints = self.call_once(band_kpoints, "kpoints", structure=structure, settings=settings)

    @property
    def n_shares(self) -> int:
        """Jobs over which the k-points are split."""
        if "max_kpoints_per_job" not in self.inputs:
            return 1
        mesh = mesh_of(self.ctx.kpoints)
        n_kpoints = len(points_of(self.ctx.kpoints)) if mesh is None else math.prod(mesh)
        return math.ceil(n_kpoints / self.inputs.max_kpoints_per_job.value)

    def is_split(self) -> bool:
        """Whether several jobs solve the k-points."""
        return self.n_shares > 1

    def run_shares(self) -> ToContext:
        """A job for every share of the k-points, and the density of states beside them."""
        return ToContext(**{share_name(n): self.submit_share(n) for n in range(self.n_shares)}, **self.dos_job())

    def submit_share(self, number: int, killed: orm.ProcessNode | None = None) -> orm.ProcessNode:
        """The job of one share, or the next one after a job that was killed."""
        inputs = self.bands_job()
        inputs["parameters"] = orm.Dict({**inputs["parameters"].get_dict(), "share": [number, self.n_shares]})
        tries = self.ctx.get("share_restarts", 0)
        if killed is not None:
            inputs["restart_folder"] = killed.outputs.remote_folder
        return self.submit_once(
            BandsCalculation,
            inputs,
            name=share_name(number) if killed is None else f"{share_name(number)}_{tries:02d}",
            label="bands",
            description=f"eigenvalues at share {number + 1} of {self.n_shares} of the k-points",
        )

    def shares(self) -> list[orm.ProcessNode]:
        """The last job of every share."""
        return [self.ctx[share_name(n)] for n in range(self.n_shares)]

    def share_was_killed(self) -> bool:
        """Whether a share goes on where its job was stopped."""
        return self.ctx.get("share_restarts", 0) < MAX_RESTARTS and any(map(can_go_on, self.shares()))

    def continue_shares(self) -> ToContext:
        """Further jobs for the shares that were stopped."""
        self.ctx.share_restarts = self.ctx.get("share_restarts", 0) + 1
        stopped = [(n, node) for n, node in enumerate(self.shares()) if can_go_on(node)]
        return ToContext(**{share_name(n): self.submit_share(n, node) for n, node in stopped})

    def run_jobs(self) -> ToContext | ExitCode:
        """Bands, joined from their shares if there are some, and density of states side by side."""
        description = "eigenvalues along the k-points"
        if self.is_split():
            failed = [node for node in self.shares() if not node.is_finished_ok]
            if failed:
                node = failed[0]
                return self.exit_codes.ERROR_BANDS_FAILED.format(status=node.exit_status, message=node.exit_message)
            description = f"eigenvalues of {self.n_shares} jobs joined"
        bands = self.submit_once(
            BandsCalculation, self.whole_job(), name="bands", label="bands", description=description
        )
        return ToContext(bands=bands, **self.dos_job())

    def dos_job(self) -> dict[str, orm.ProcessNode]:
        """The job for the density of states, if one is wanted."""
        if "dos" not in self.inputs:
            return {}
        inputs = {**self.exposed_inputs(DosCalculation, namespace="dos"), **self.folder()}
        job = self.submit_once(DosCalculation, inputs, name="dos", label="dos", description="density of states")
        return {"dos": job}

    def folder(self) -> dict[str, orm.Data]:
        """H and S, as a node or where they lie."""
        return {name: self.inputs[name] for name in FOLDER_INPUTS if name in self.inputs}

    def bands_job(self) -> dict[str, Any]:
        """Inputs of the job for the bands."""
        inputs = self.exposed_inputs(BandsCalculation, namespace="bands")
        return {**inputs, **self.folder(), "kpoints": self.ctx.kpoints}

    def whole_job(self) -> dict[str, Any]:
        """Inputs of the job that gives the bands, from the shares if there are some."""
        inputs = self.bands_job()
        if self.is_split():
            inputs["share_folders"] = {
                share_name(n): node.outputs.remote_folder for n, node in enumerate(self.shares())
            }
        return inputs

    def was_killed(self) -> bool:
        """Whether the bands go on where a job was stopped."""
        return can_go_on(self.ctx.bands) and self.ctx.get("restarts", 0) < MAX_RESTARTS

    def continue_bands(self) -> ToContext:
        """A further job for the k-points that are left."""
        count = self.ctx.get("restarts", 0) + 1
        inputs = {**self.whole_job(), "restart_folder": self.ctx.bands.outputs.remote_folder}
        node = self.submit_once(
            BandsCalculation,
            inputs,
            name=f"bands_{count:02d}",
            label="bands",
            description=f"eigenvalues at the k-points that are left, after exit status {self.ctx.bands.exit_status}",
        )
        self.ctx.restarts = count
        return ToContext(bands=node)

    def results(self) -> ExitCode | None:
        """Attach what came out; a failed density of states does not take the bands away."""
        exit_code: ExitCode | None = None
        if "dos" in self.ctx:
            if self.ctx.dos.is_finished_ok:
                self.out("dos", self.ctx.dos.outputs.dos)
                self.out("dos_parameters", self.ctx.dos.outputs.output_parameters)
            else:
                exit_code = self.exit_codes.ERROR_DOS_FAILED.format(
                    status=self.ctx.dos.exit_status, message=self.ctx.dos.exit_message
                )
        node = self.ctx.bands
        if not node.is_finished_ok:
            exit_code = self.exit_codes.ERROR_BANDS_FAILED.format(status=node.exit_status, message=node.exit_message)
            return exit_code
        self.out("bands", node.outputs.bands)
        self.out("output_parameters", node.outputs.output_parameters)
        if "wavefunctions" in node.outputs:
            self.out("wavefunctions", node.outputs.wavefunctions)
        return exit_code

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
        """Builder with the inputs of a protocol; a density of states is computed unless the overrides hold `dos: null`.

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
        jobs = {
            name: job_inputs(code, inputs[name], options) for name in ("bands", "dos") if inputs.get(name) is not None
        }
        return {**{key: value for key, value in inputs.items() if key not in ("bands", "dos")}, **jobs}
