"""Labelling with Quantum ESPRESSO: pw.x and pw2bgw.x, then HPRO."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, Process, ProcessSpec, ToContext, calcfunction, while_
from aiida.plugins import CalculationFactory
from pydantic import Field

from aiida_deeph.calculations.program import with_program
from aiida_deeph.calculations.space import found_no_space
from aiida_deeph.codes.label import LabelWorkChain
from aiida_deeph.codes.proof import Run
from aiida_deeph.codes.qe.hpro import HproConfig
from aiida_deeph.codes.qe.programs import PROGRAMS, check_codes, find_code
from aiida_deeph.codes.qe.proof import prove
from aiida_deeph.engine.config import Config, parse_config
from aiida_deeph.engine.dft.base import code_of_format
from aiida_deeph.engine.dft.qe.code import RECORD
from aiida_deeph.engine.dft.qe.render import checked_namelists
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.orbitals.formats import format_of, suffix_of
from aiida_deeph.processes.folders import label_options, missing_files, without_raw_files
from aiida_deeph.processes.options import scheduler_options
from aiida_deeph.processes.orbitals import ElementFiles, orbitals_family, overlap_of
from aiida_deeph.processes.protocol import merge
from aiida_deeph.processes.recovery import OUT_OF_WALLTIME, RETRYABLE, pause_for_room

FILES = ElementFiles("orb_", "upf_", "upf")
# Of a family that has several files of an element, by number of orbitals: which of them.
SIZES = {"quick": 0.0, "standard": 0.5, "precise": 1.0}

PwCalculation, HproCalculation = CalculationFactory("deeph.pw"), CalculationFactory("deeph.hpro")


class QeLabelConfig(Config):
    """What `parameters` of a label hold.

    :param namelists: of pw.x, e.g. `{SYSTEM: {ecutwfc: 100}}`.
    :param orbitals: name of the file of each element, e.g. `{C: C_gga_8au_100Ry_2s2p1d.orb}`.
    :param hpro: fields of HproConfig; `cutoff` is by default that of pw.x.
    """

    namelists: dict[str, Any] = Field(default_factory=dict)
    orbitals: dict[str, str] = Field(default_factory=dict)
    hpro: dict[str, Any] = Field(default_factory=dict)

    def files_of(self, symbols: set[str]) -> dict[str, str]:
        """File of orbitals of each element."""
        return {symbol: self.orbitals[symbol] for symbol in symbols}

    def checked(self) -> tuple[dict[str, dict[str, Any]], HproConfig]:
        """Namelists, and the configuration of HPRO.

        :raises InputError: one of them cannot be.
        """
        namelists = checked_namelists(self.namelists, "parameters.namelists")
        system = namelists["SYSTEM"]
        values = {"cutoff": system["ecutwfc"], "spin_orbit": bool(system.get("lspinorb")), **self.hpro}
        return namelists, parse_config(HproConfig, values, "parameters.hpro")


@calcfunction
def label_results(pw: orm.Dict, hpro: orm.Dict) -> orm.Dict:
    """Numbers of pw.x, and below `projection` what HPRO's job found it to cost."""
    return orm.Dict({**pw.get_dict(), "projection": hpro.get_dict()})


class QeLabelWorkChain(LabelWorkChain):
    """Label a structure with Quantum ESPRESSO; a DeepH folder and pw.x's XML stay in the folder of HPRO's job.

    `code` is pw.x; `codes` are pw2bgw.x and the Python in whose environment HPRO is.
    """

    _process_class = PwCalculation
    _protocol_file = Path(__file__).parent / "protocol.yaml"
    record, aliases = RECORD, PwCalculation.ALIASES
    not_converged = (410,)
    out_of_walltime = (420,)
    incomplete = (400,)
    no_space = (440,)

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        spec.outline(
            cls.setup,
            while_(cls.should_run_process)(cls.run_process, cls.inspect_process),
            cls.start_projection,
            while_(cls.projection_open)(cls.run_projection, cls.inspect_projection),
            cls.results,
        )
        spec.exit_code(340, "ERROR_PROJECTION_FAILED", message="HPRO failed with exit status {status}: {message}")
        spec.exit_code(
            350, "ERROR_BANDS_FAILED", message="The run of bands failed with exit status {status}: {message}"
        )

    @classmethod
    def check_parameters(cls, parameters: dict[str, Any], inputs: Mapping[str, Any]) -> None:
        """Settings, programs and files."""
        settings = parse_config(QeLabelConfig, parameters, "parameters")
        settings.checked()
        check_codes(inputs["code"], inputs.get("codes", {}))
        FILES.chosen(inputs.get("files", {}), settings.files_of(cls.symbols_of(inputs)))

    @classmethod
    def missing_elements(cls, symbols: set[str], parameters: Mapping[str, Any]) -> list[str]:
        """Elements without orbitals."""
        return sorted(symbols - set(parameters.get("orbitals", {})))

    @classmethod
    def complete_parameters(cls, parameters: dict[str, Any], symbols: set[str]) -> dict[str, Any]:
        """`size` of the protocol as a file of the family for each element; those that are given stay."""
        size, family = parameters.pop("size"), orbitals_family(parameters["orbitals_family"])
        if size not in SIZES:
            expected = f"one of {', '.join(SIZES)}"
            raise InputError("unknown size of the basis", where="label.parameters.size", found=size, expected=expected)
        known = {}
        for symbol in sorted(symbols):
            nodes = [node for node in family.of_element(symbol) if format_of(node.filename) != "pao"]
            if nodes:
                known[symbol] = nodes[round(SIZES[size] * (len(nodes) - 1))].filename
        return {**parameters, "orbitals": {**known, **parameters.get("orbitals", {})}}

    @classmethod
    def label_inputs(cls, code: orm.AbstractCode, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As of every code; pseudopotentials and orbitals come from the families that the protocol names, and the
        other programs, unless `codes` names them, are those registered on the computer of pw.x.

        :raises InputError: anything that cannot run, a family that is not installed, or a program without code.
        """
        inputs = super().label_inputs(code, *args, **kwargs)
        parameters = dict(inputs["parameters"])
        orbitals, pseudos = parameters.pop("orbitals_family"), parameters.pop("pseudos_family")
        settings = parse_config(QeLabelConfig, parameters, "label.parameters")
        settings.checked()
        names = {symbol: name.removesuffix(suffix_of(name)) for symbol, name in settings.orbitals.items()}
        files = FILES.of_families(inputs.get("files"), names, orbitals, pseudos)
        codes = {name: find_code(name, code, (inputs.get("codes") or {}).get(name)) for name in PROGRAMS}
        check_codes(code, codes)
        return {**inputs, "parameters": settings.model_dump(mode="json"), "files": files, "codes": codes}

    @classmethod
    def overlap_basis(cls, parameters: Mapping[str, Any], symbols: set[str]) -> str | dict[str, str]:
        """The same orbitals from a folder of their files.

        :param parameters: of a label, or the settings that the reader of a run recorded.
        """
        basis: dict[str, str] = {}
        for symbol in sorted(symbols):
            name = parameters["orbitals"][symbol]
            basis |= overlap_of(code_of_format(format_of(name)), {symbol: name.removesuffix(suffix_of(name))})
        return basis

    @classmethod
    def prove(cls, codes: Mapping[str, orm.AbstractCode], families: str | None, run: Run) -> None:
        """A hydrogen molecule, as far as there are codes."""
        prove(codes, run)

    @classmethod
    def job_settings(cls, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Code and metadata of pw.x's job; what concerns the raw files holds for that of HPRO."""
        options = with_program(without_raw_files(inputs.get("options")), inputs["code"])
        return {"code": inputs["code"], "metadata": {"options": scheduler_options(options, inputs["code"])}}

    @classmethod
    def job_inputs(cls, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs of pw.x."""
        settings = settings_of(inputs)
        structure = inputs["structure"]
        return {
            "structure": structure,
            "parameters": orm.Dict(settings.checked()[0]),
            "kpoints": inputs["kpoints"],
            "pseudos": FILES.chosen(inputs.get("files", {}), settings.files_of(cls.symbols_of(inputs)))["pseudos"],
            "pw2bgw": inputs["codes"]["pw2bgw"],
        }

    @classmethod
    def next_job(cls, inputs: Mapping[str, Any], node: orm.CalcJobNode) -> tuple[type[Process], dict[str, Any]] | None:
        """HPRO's job from what pw.x left."""
        if node.process_class is not PwCalculation:
            return None
        settings = settings_of(inputs)
        structure, code = inputs["structure"], inputs["codes"]["hpro"]
        given = with_program(label_options(inputs.get("options", {}), cls.record.raw_files, watched=True), code)
        options = scheduler_options(given, code)
        return HproCalculation, {
            "code": code,
            "structure": structure,
            "parameters": orm.Dict(settings.checked()[1].model_dump()),
            "pw_folder": node.outputs.remote_folder,
            **FILES.chosen(inputs.get("files", {}), settings.files_of(cls.symbols_of(inputs))),
            "metadata": {"options": {"withmpi": False, **options}},
        }

    @classmethod
    def scf_job(cls, node: orm.CalcJobNode) -> orm.CalcJobNode:
        """The run of pw.x itself, or the one that HPRO projected."""
        return node if node.process_class is PwCalculation else node.inputs.pw_folder.creator

    def improve_scf(self, parameters: dict[str, Any], attempt: int) -> dict[str, Any] | None:
        """More cycles with smaller mixing at first, then local screening, small steps and 0.02 Ry of smearing."""
        if attempt > 2:
            return None
        electrons = parameters.get("ELECTRONS", {})
        changes: dict[str, Any] = {
            "electron_maxstep": max(2 * int(electrons.get("electron_maxstep", 100)), 200),
            "mixing_beta": min(float(electrons.get("mixing_beta", 0.7)), 0.3 / attempt),
        }
        system: dict[str, Any] = {}
        if attempt == 2:
            changes |= {"mixing_mode": "local-TF", "mixing_ndim": 12}
            system = {"occupations": "smearing", "smearing": "gaussian", "degauss": 0.02}
        return merge(parameters, {"ELECTRONS": changes, "SYSTEM": system})

    def start_projection(self) -> None:
        """HPRO's job from what pw.x left; the bands run beside it."""
        following = self.next_job(self.inputs, self.ctx.children[self.ctx.iteration - 1])
        assert following is not None
        self.ctx.projection = following[1]
        self.ctx.n_projections = 0
        self.ctx.projected = False

    def projection_open(self) -> bool:
        """Whether HPRO's job is still to run, for the first time or again."""
        return not self.ctx.projected

    def run_projection(self) -> ToContext:
        """Submit it, unless the first one ended before this process began, and beside it the bands; what is there
        already is not done again."""
        pw = self.ctx.children[self.ctx.iteration - 1]
        names = {"label": self.node.label or "projection"}
        formula, jobs = self.inputs.structure.get_formula(), {}
        if not self._projection_is_there():
            self.ctx.n_projections += 1
            number = self.ctx.n_projections
            hpro = orm.load_node(self.inputs.first_job) if "first_job" in self.inputs and number == 1 else None
            if hpro is None or hpro.process_class is not HproCalculation:
                call, what = f"projection_{number:02d}", f"HPRO of {formula}"
                hpro = self.submit_once(HproCalculation, self.ctx.projection, name=call, description=what, **names)
            jobs["hpro"] = hpro
        bands = self.ctx.get("bands")
        if "bands_kpoints" in self.inputs and (bands is None or self._found_no_room(bands)):
            self.ctx.n_bands = number = self.ctx.get("n_bands", 0) + 1
            scf = {name: value for name, value in self.ctx.inputs.items() if name != "pw2bgw"}
            inputs = {**scf, "kpoints": self.inputs.bands_kpoints, "parent_folder": pw.outputs.remote_folder}
            call, what = "bands" if number == 1 else f"bands_{number:02d}", f"bands of {formula}"
            jobs["bands"] = self.submit_once(PwCalculation, inputs, name=call, description=what, **names)
        return ToContext(**jobs)

    def _found_no_room(self, node: orm.CalcJobNode) -> bool:
        """Whether a job ended on a full disk: whatever it left, it may not be whole."""
        return node.exit_status in self.no_space or found_no_space(node)

    def _projection_is_there(self) -> bool:
        """Whether HPRO's job has left all that a label is."""
        node = self.ctx.get("hpro")
        return node is not None and node.is_finished_ok and not missing_files(node) and not found_no_space(node)

    def inspect_projection(self) -> ExitCode | None:
        """A job that was cut off is tried again; one that failed for good, or left no files, ends the label."""
        node, bands = self.ctx.hpro, self.ctx.get("bands")
        full = [job for job in (node, bands) if job is not None and self._found_no_room(job)]
        for job in full:
            # Waiting is no failure: the try does not count.
            self.ctx.n_waited = self.ctx.get("n_waited", 0) + (job is node)
            pause_for_room(self, job)
        if bands is not None and bands not in full and not bands.is_finished_ok:
            return self.failure(self.exit_codes.ERROR_BANDS_FAILED, bands)
        self.ctx.projected = self._projection_is_there() and not full
        return None if full or self.ctx.projected else self._retry_projection(node)

    def _retry_projection(self, node: orm.CalcJobNode) -> ExitCode | None:
        """HPRO's job once more, or the exit code of a label that is given up."""
        missing = missing_files(node) if node.is_finished_ok else []
        options = self.ctx.projection["metadata"]["options"]
        if missing:
            # Not to be taken from the cache by anyone.
            node.base.caching.is_valid_cache = False
        elif node.exit_status in (OUT_OF_WALLTIME, *self.out_of_walltime) and "max_wallclock_seconds" in options:
            options["max_wallclock_seconds"] *= 2
        elif node.exit_status not in (OUT_OF_WALLTIME, *self.out_of_walltime, *RETRYABLE, *self.incomplete):
            return self.failure(self.exit_codes.ERROR_PROJECTION_FAILED, node)
        if self.ctx.n_projections - self.ctx.get("n_waited", 0) > self.max_retries:
            if missing:
                return self.exit_codes.ERROR_FILES_MISSING.format(files=", ".join(missing))
            return self.exit_codes.ERROR_JOB_FAILED.format(reason=self.why(node))
        reason = f"missing: {', '.join(missing)}" if missing else f"exit status {node.exit_status}"
        self.report(f"HPRO, {reason}: retry {self.ctx.n_projections} of {self.max_retries}")
        self.ctx.projection["metadata"]["disable_cache"] = True
        return None

    def get_outputs(self, node: orm.CalcJobNode) -> dict[str, orm.Node]:
        """Numbers of both programs, the folder of HPRO's job, the bands, and the structure."""
        hpro = self.ctx.hpro
        parts = {"pw": node.outputs.output_parameters, "hpro": hpro.outputs.output_parameters}
        outputs = {
            "output_parameters": self.call_once(label_results, "results", **parts),
            "remote_folder": hpro.outputs.remote_folder,
            "structure": self.inputs.structure,
        }
        if "remote_stash" in hpro.outputs:
            outputs["remote_stash"] = hpro.outputs.remote_stash
        if self.ctx.get("bands") is not None:
            outputs["output_band"] = self.ctx.bands.outputs.output_band
        return outputs


def settings_of(inputs: Mapping[str, Any]) -> QeLabelConfig:
    """The parameters of a label."""
    return parse_config(QeLabelConfig, inputs["parameters"].get_dict(), "parameters")
