"""Predicted Hamiltonians as the start of an SCF: how many cycles they save."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, WorkChain, calcfunction, while_
from aiida.plugins import CalculationFactory, DataFactory

from aiida_deeph.codes.pyscf.label import PyscfLabelWorkChain
from aiida_deeph.engine.errors import InputError
from aiida_deeph.processes.builder import filled_builder
from aiida_deeph.processes.pool import PoolMixin
from aiida_deeph.processes.ports import expose_inputs
from aiida_deeph.processes.protocol import ProtocolMixin
from aiida_deeph.processes.resumable import reason_of

PyscfCalculation = CalculationFactory("deeph.pyscf")

# Where the SCF starts from; the first is what it would do by itself.
STARTS = ("minao", "prediction")


@calcfunction
def compare_starts(failed: orm.Dict, **runs: orm.Dict) -> orm.Dict:
    """Cycles, energies and seconds of both SCFs of every structure, their means, and what one step says of each H.

    :param failed: name -> reason.
    :param runs: output_parameters as `NAME__START`.
    """
    structures: dict[str, Any] = {}
    for name in sorted({key.rpartition("__")[0] for key in runs}):
        if any(f"{name}__{start}" not in runs for start in STARTS):
            continue
        own, predicted = (runs[f"{name}__{start}"].get_dict() for start in STARTS)
        structures[name] = {
            "cycles_minao": own["scf_cycles"],
            "cycles_prediction": predicted["scf_cycles"],
            "ratio_of_cycles": predicted["scf_cycles"] / own["scf_cycles"],
            "seconds_minao": own["scf_seconds"],
            "seconds_prediction": predicted["scf_seconds"],
            "energy_eV": own["energy"],
            "energy_difference_eV": predicted["energy"] - own["energy"],
            "first_step": predicted["first_step"],
        }
    values = list(structures.values())
    means = {
        f"mean_{key}": sum(one[key] for one in values) / len(values)
        for key in ("cycles_minao", "cycles_prediction", "ratio_of_cycles", "seconds_minao", "seconds_prediction")
        if values
    }
    largest = max((abs(one["energy_difference_eV"]) for one in values), default=None)
    return orm.Dict(
        {
            "n_structures": len(values),
            "failed": failed.get_dict(),
            **means,
            "largest_energy_difference_eV": largest,
            "structures": structures,
        }
    )


class AccelerateWorkChain(ProtocolMixin, PoolMixin, WorkChain):
    """Every structure of a predicted Hamiltonian twice through PySCF: from its own start, and from the prediction."""

    _protocol_file = Path(__file__).parent / "accelerate.yaml"

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        expose_inputs(spec, PyscfCalculation, namespace="scf", exclude=("structure", "start", "bands_kpoints"))
        spec.input_namespace(
            "hamiltonians",
            valid_type=DataFactory("deeph.hamiltonian"),
            dynamic=True,
            help="Predicted H, in the basis and functional of `scf`, by name.",
        )
        spec.input(
            "max_concurrent",
            valid_type=orm.Int,
            serializer=orm.to_aiida_type,
            default=lambda: orm.Int(2),
            help="Jobs at a time.",
        )
        spec.inputs.validator = cls._validate
        spec.outline(cls.setup, while_(cls.pool_open)(cls.fill_pool), cls.results)
        spec.output("output_parameters", valid_type=orm.Dict, help="Cycles, energies and seconds, and their means.")
        spec.default_output_node = "output_parameters"
        spec.exit_code(310, "ERROR_ALL_FAILED", message="No structure converged from both starts: {reasons}")
        spec.exit_code(710, "WARNING_SOME_FAILED", message="Finished, but some runs failed: {reasons}")

    @classmethod
    def _validate(cls, inputs: Mapping[str, Any], _: Any) -> str | None:
        if "hamiltonians" not in inputs:
            return None
        without = sorted(name for name, node in inputs["hamiltonians"].items() if not node.has_hamiltonian)
        if not inputs["hamiltonians"] or without:
            return f"no Hamiltonian: {', '.join(without)}" if without else "give at least one of `hamiltonians`"
        strange = sorted(name for name in inputs["hamiltonians"] if "__" in name)
        return f"two underscores in a name: {', '.join(strange)}" if strange else None

    def setup(self) -> None:
        """Nothing has failed yet."""
        self.ctx.failed = {}
        self.start_pool()

    def pool_members(self) -> list[str]:
        """Each structure from each start."""
        return [f"{name}__{start}" for name in sorted(self.inputs.hamiltonians) for start in STARTS]

    def pool_size(self) -> int:
        """Jobs at a time."""
        size: int = self.inputs.max_concurrent.value
        return size

    def submit_member(self, name: str) -> orm.ProcessNode:
        """Submit one SCF."""
        structure, _, start = name.rpartition("__")
        hamiltonian = self.inputs.hamiltonians[structure]
        inputs = {**self.exposed_inputs(PyscfCalculation, namespace="scf"), "structure": hamiltonian.get_structure()}
        if start != STARTS[0]:
            inputs["start"] = hamiltonian
        return self.submit_once(
            PyscfCalculation, inputs, name=name, label=name, description=f"SCF of {structure} from {start}"
        )

    def member_ended(self, name: str, node: orm.ProcessNode) -> None:
        """Note a failure; the others go on."""
        if not node.is_finished_ok:
            self.ctx.failed = {**self.ctx.failed, name: reason_of(node)}

    def results(self) -> ExitCode | None:
        """Compare."""
        runs = {name: self.child(name) for name in self.pool_members() if name not in self.ctx.failed}
        found = {name: node.outputs.output_parameters for name, node in runs.items() if node is not None}
        report = self.call_once(compare_starts, "compare", failed=orm.Dict(dict(self.ctx.failed)), **found)
        self.out("output_parameters", report)
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(self.ctx.failed.items()))
        exit_code: ExitCode | None = None
        if not report["n_structures"]:
            exit_code = self.exit_codes.ERROR_ALL_FAILED.format(reasons=reasons)
        elif reasons:
            exit_code = self.exit_codes.WARNING_SOME_FAILED.format(reasons=reasons)
        return exit_code

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        hamiltonians: Mapping[str, orm.Data],
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> ProcessBuilder:
        """Builder with the SCF of a protocol of the labels.

        :param hamiltonians: predicted, by name.
        :param overrides: mirror the ports; `scf` holds what the labels of the training had: parameters, kpoints.
        :raises InputError: anything that cannot run.
        """
        if not hamiltonians:
            raise InputError("no predicted Hamiltonian", where="hamiltonians", expected="at least one")
        structures = [node.get_structure() for node in hamiltonians.values()]
        own = {key: value for key, value in (overrides or {}).items() if key != "scf"}
        inputs, given = cls.get_protocol_inputs(protocol, own), (overrides or {}).get("scf")
        label = PyscfLabelWorkChain.label_inputs(code, structures, protocol, given, options, where="overrides.scf")
        scf = {
            "code": label["code"],
            "parameters": label["parameters"],
            "kpoints": label["kpoints"],
            "metadata": {"options": label["options"]},
        }
        return filled_builder(cls, {**inputs, "scf": scf, "hamiltonians": dict(hamiltonians)})
