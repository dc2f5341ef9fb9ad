"""Labelling with a DFT program with a plugin of our own and a basis of numerical orbitals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from aiida import orm
from aiida.engine import BaseRestartWorkChain, PortNamespace, ProcessBuilder, ProcessSpec, while_
from pydantic import Field

from aiida_deeph.codes.label import LabelWorkChain
from aiida_deeph.codes.proof import MESH, Run, hydrogen_molecule
from aiida_deeph.engine.config import Config, parse_config
from aiida_deeph.engine.dft.keywords import flat, grouped
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.processes.builder import filled_builder
from aiida_deeph.processes.orbitals import ElementFiles
from aiida_deeph.processes.ports import expose_inputs
from aiida_deeph.processes.protocol import ProtocolMixin
from aiida_deeph.processes.recovery import DensityRestartMixin
from aiida_deeph.processes.resumable import ResumableRestartMixin


class LcaoLabelConfig(Config):
    """What `parameters` of a label hold.

    :param keywords: of the program's input, e.g. `{scf: {XcType: GGA-PBE, Mixing.Type: Simple}}`.
    :param basis: of each element, in the words of the program.
    :param spin_orbit: needs noncollinear spins.
    :param moments: initial spin moment by kind, Bohr magnetons: along z, or `[x, y, z]`.
    """

    keywords: dict[str, Any] = Field(default_factory=dict)
    basis: dict[str, str | list[str]] = Field(default_factory=dict)
    spin: SpinMode = SpinMode.NONE
    spin_orbit: bool = False
    moments: dict[str, float | tuple[float, float, float]] | None = None


class LcaoLabelWorkChain(DensityRestartMixin, LabelWorkChain):
    """Label a structure with a DftCalculation; its matrices stay in the remote folder.

    A subclass names the inputs `files` of its orbitals and pseudopotentials, says which file an element's basis lies in
    (`orbitals_file`), and what the basis is among the inputs of the job (`basis_inputs`).
    """

    files: ClassVar[ElementFiles]
    # Keywords that make a tiny job tiny.
    quick: ClassVar[Mapping[str, Any]]

    @classmethod
    def check_parameters(cls, parameters: dict[str, Any], inputs: Mapping[str, Any]) -> None:
        """Settings, keywords and files."""
        settings = parse_config(LcaoLabelConfig, parameters, "parameters")
        cls._process_class.KEYWORDS.checked(settings.keywords, "parameters.keywords")
        cls.files.chosen(inputs.get("files", {}), cls.names_of(settings, cls.symbols_of(inputs)))

    @classmethod
    def missing_elements(cls, symbols: set[str], parameters: Mapping[str, Any]) -> list[str]:
        """Elements without an entry in `basis`."""
        return sorted(symbols - set(parameters.get("basis", {})))

    @classmethod
    def orbitals_file(cls, symbol: str, basis: Any) -> str:
        """Name, without its ending, of the file of orbitals that the basis of an element names.

        :raises InputError: the basis is not understood.
        """
        raise NotImplementedError

    @classmethod
    def basis_inputs(cls, basis: Mapping[str, Any]) -> dict[str, orm.Data]:
        """The basis among the inputs of the job, apart from the files."""
        return {}

    @classmethod
    def label_inputs(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As of every code; the files of the basis come from the families that the protocol names.

        :raises InputError: anything that cannot run, or a family that is not installed.
        """
        inputs = super().label_inputs(*args, **kwargs)
        parameters = dict(inputs["parameters"])
        orbitals, pseudos = parameters.pop("orbitals_family", None), parameters.pop("pseudos_family")
        settings = parse_config(LcaoLabelConfig, parameters, "label.parameters")
        names = cls.names_of(settings, set(settings.basis))
        files = cls.files.of_families(inputs.get("files"), names, orbitals, pseudos)
        return {**inputs, "parameters": settings.model_dump(mode="json", exclude_none=True), "files": files}

    @classmethod
    def prove(cls, codes: Mapping[str, orm.AbstractCode], families: str | None, run: Run) -> None:
        """A hydrogen molecule.

        :raises InputError: the families are not installed.
        """
        (code,) = codes.values()
        names = ["pseudos_family", *([] if cls.files.orbitals is None else ["orbitals_family"])]
        parameters = {**dict.fromkeys(names, families), "keywords": dict(cls.quick)}
        structure = hydrogen_molecule()
        values = cls.label_inputs(code, [structure], "fast", {"kpoints": list(MESH), "parameters": parameters})
        settings = parse_config(LcaoLabelConfig, values["parameters"], "parameters")
        inputs = cls.calculation_inputs(settings, values["files"], structure)
        job = {**inputs, "code": code, "kpoints": values["kpoints"]}
        run(f"{cls.record.title} run of a hydrogen molecule", filled_builder(cls._process_class, job))

    @classmethod
    def job_inputs(cls, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs of the calculation."""
        settings = parse_config(LcaoLabelConfig, inputs["parameters"].get_dict(), "parameters")
        return {
            **cls.calculation_inputs(settings, inputs.get("files", {}), inputs["structure"]),
            **{name: inputs[name] for name in ("kpoints", "bands_kpoints") if name in inputs},
        }

    @classmethod
    def calculation_inputs(
        cls, settings: LcaoLabelConfig, files: Mapping[str, orm.SinglefileData], structure: orm.StructureData
    ) -> dict[str, Any]:
        """Inputs of the calculation but for k-points and code.

        :raises InputError: a file is missing.
        """
        symbols = structure.get_symbols_set()
        inputs = {
            "structure": structure,
            "parameters": orm.Dict(grouped(flat(settings.keywords))),
            **cls.basis_inputs({symbol: settings.basis[symbol] for symbol in sorted(symbols)}),
            **cls.files.chosen(files, cls.names_of(settings, symbols)),
            "spin": orm.Str(settings.spin.value),
            "spin_orbit": orm.Bool(settings.spin_orbit),
        }
        if settings.moments is not None:
            kinds = {kind.name for kind in structure.kinds}
            inputs["moments"] = orm.Dict({kind: value for kind, value in settings.moments.items() if kind in kinds})
        return inputs

    @classmethod
    def names_of(cls, settings: LcaoLabelConfig, symbols: set[str]) -> dict[str, str]:
        """File of orbitals of each element, without its ending; empty where the program makes them itself.

        :raises InputError: a basis is not understood.
        """
        makes = cls.files.orbitals is None
        return {s: "" if makes else cls.orbitals_file(s, settings.basis[s]) for s in sorted(symbols)}


class LcaoBaseWorkChain(ProtocolMixin, DensityRestartMixin, ResumableRestartMixin, BaseRestartWorkChain):
    """Run a DFT job whose inputs are given one by one, recovering as the label of its code does.

    A subclass names its job, the namespace of the job's inputs, and the labels whose protocols these are.
    """

    label_workchain: ClassVar[type[LcaoLabelWorkChain]]
    namespace: ClassVar[str]

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        expose_inputs(spec, cls._process_class, namespace=cls.namespace)
        spec.outline(cls.setup, while_(cls.should_run_process)(cls.run_process, cls.inspect_process), cls.results)
        spec.expose_outputs(cls._process_class)
        spec.default_output_node = "output_parameters"
        cls.define_recovery(spec)

    def setup(self) -> None:
        """Prepare the inputs of the first job."""
        super().setup()
        inputs = dict(self.exposed_inputs(self._process_class, namespace=self.namespace))
        metadata = inputs.get("metadata", {})
        inputs["metadata"] = {**metadata, "options": dict(metadata.get("options", {}))}
        self.ctx.inputs = inputs
        self.reset_recovery()

    @classmethod
    def protocol_ports(cls) -> PortNamespace:
        """Those of the labelling workchain, whose protocols these are."""
        return cls.label_workchain.protocol_ports()

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        structure: orm.StructureData,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        bands_kpoints: orm.KpointsData | None = None,
    ) -> ProcessBuilder:
        """Builder with the inputs of a protocol of the labels.

        :param overrides: mirror the ports of the labelling workchain: `parameters.keywords`, `parameters.spin`, ...
        :raises InputError: an unknown protocol or override, a code of another plugin, an element without basis.
        """
        values = cls.label_workchain.label_inputs(code, [structure], protocol, overrides, options)
        settings = parse_config(LcaoLabelConfig, values["parameters"], "parameters")
        job = {
            **cls.label_workchain.calculation_inputs(settings, values["files"], structure),
            "code": code,
            "kpoints": values["kpoints"],
            "bands_kpoints": bands_kpoints,
            "metadata": {"options": values["options"]},
        }
        return filled_builder(cls, {cls.namespace: job, "max_iterations": values.get("max_iterations")})
