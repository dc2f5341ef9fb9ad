"""Children that pretend: they take a given time, end as told, and leave what the parent looks for."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from aiida import orm
from aiida.engine import ExitCode, WorkChain
from aiida.plugins import CalculationFactory
from plumpy.greenback_bridge import sync_await

from aiida_deeph.codes.label import LabelWorkChain
from aiida_deeph.codes.pyscf.label import PyscfLabelWorkChain
from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.engine.io.dataset import DatasetManifest


def remote_folder(computer: orm.Computer) -> orm.RemoteData:
    """A stored folder that nobody looks into."""
    return orm.RemoteData(remote_path="/nowhere", computer=computer).store()


class FakeLabelWorkChain(LabelWorkChain):
    """Ends with the `status` and after the end of the label that are extras of the structure; keeps a diary."""

    _process_class = CalculationFactory("core.arithmetic.add")
    _protocol_file = PyscfLabelWorkChain._protocol_file
    record = PyscfLabelWorkChain.record
    diary: ClassVar[list[tuple[str, str]]] = []

    @classmethod
    def define(cls, spec: Any) -> None:
        super().define(spec)
        spec.outline(cls.work)
        spec.exit_code(399, "ERROR_AS_TOLD", message="failed as told")

    @classmethod
    def first_job(cls, inputs: Any) -> tuple[Any, dict[str, Any]]:
        """The workchain itself: there is no job."""
        return cls, dict(inputs)

    def work(self) -> ExitCode | None:
        extras = self.inputs.structure.base.extras
        self.diary.append(("begin", self.node.label))
        patience = 1000
        while extras.get("after", None) and ("end", extras.get("after")) not in self.diary and patience:
            sync_await(asyncio.sleep(0.05))
            patience -= 1
        self.diary.append(("end", self.node.label))
        if extras.get("status", 0):
            return self.exit_codes.ERROR_AS_TOLD
        self.out("remote_folder", remote_folder(self.inputs.code.computer))
        self.out("output_parameters", orm.Dict({"energy": -1.0}).store())
        self.out("structure", self.inputs.structure)
        return None


class FakePreprocess(WorkChain):
    """Makes a dataset of members that exist by name only."""

    @classmethod
    def define(cls, spec: Any) -> None:
        super().define(spec)
        spec.inputs.dynamic = True
        spec.outputs.dynamic = True
        spec.input_namespace("labels", dynamic=True)
        spec.outline(cls.work)

    def work(self) -> None:
        labels = dict(self.inputs.labels)
        members = [
            {"name": name, "uuid": name, "path": name, "sha256": {"POSCAR": "0" * 64}, "n_atoms": 4, "n_pairs": 10}
            for name in labels
        ]
        values = {"members": members, "basis": {"H": (0,)}, "spin": "none", "pair_cutoffs": {"H-H": 5.0}}
        self.out("dataset", DatasetData(DatasetManifest.model_validate(values)).store())
        self.out("remote_folder", remote_folder(next(iter(labels.values())).computer))
        self.out("output_parameters", orm.Dict({"n_members": len(labels)}).store())
