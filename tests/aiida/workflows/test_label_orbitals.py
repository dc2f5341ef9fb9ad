"""The orbitals of the labels in the overlaps of a model."""

from __future__ import annotations

import io

import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.plugins import DataFactory

from aiida_deeph.data.pao import PaoData
from aiida_deeph.engine.errors import InputError
from aiida_deeph.processes.orbitals import orbitals_of_basis
from aiida_deeph.workflows.full import FullWorkChain
from aiida_deeph.workflows.model_basis import basis_of
from aiida_deeph.workflows.predict import PredictWorkChain
from tests.aiida.lcao_files import graphene, read_recorded

pytestmark = pytest.mark.usefixtures("lcao_families")


def siesta_orbitals(text: str | None = None) -> PaoData:
    """Those of the recorded run of graphene, or of iron."""
    return PaoData(
        io.BytesIO((text or read_recorded("siesta", "graphene", "C.ion.xml")).encode()), filename="C.ion.xml"
    )


@pytest.fixture
def model_of(aiida_localhost, make_manifest, make_model_folder, make_remote):
    """Function that makes a model trained on labels of SIESTA whose runs made some orbitals."""

    def make(*made: PaoData) -> orm.Data:
        preprocess = orm.CalcJobNode(computer=aiida_localhost, process_type="aiida.calculations:deeph.preprocess")
        reader = orm.Str("siesta").store()
        preprocess.base.links.add_incoming(reader, LinkType.INPUT_CALC, "reader")
        for n, orbitals in enumerate(made):
            folder = make_remote(f"run{n}", creator="deeph.siesta")
            orbitals.base.links.add_incoming(folder.creator, LinkType.CREATE, "orbitals__C")
            orbitals.store()
            preprocess.base.links.add_incoming(folder, LinkType.INPUT_CALC, f"labels__run{n}")
        preprocess.store()
        dataset = DataFactory("deeph.dataset")(make_manifest(basis={"C": (0, 1)}, pair_cutoffs={"C-C": 4.2}))
        dataset.base.links.add_incoming(preprocess, LinkType.CREATE, "dataset")
        dataset.store()
        train = orm.CalcJobNode(computer=aiida_localhost, process_type="aiida.calculations:deeph.train")
        train.base.links.add_incoming(dataset, LinkType.INPUT_CALC, "dataset")
        train.store()
        labels = {"code": "siesta", "settings": {}}
        model = DataFactory("deeph.model")(make_model_folder(("C",), data={"labels": labels}))
        model.base.links.add_incoming(train, LinkType.CREATE, "model")
        return model.store()

    return make


def test_orbitals_that_the_labels_made(model_of, engine_code, code_of):
    model = model_of(siesta_orbitals(), siesta_orbitals())
    basis = basis_of(model)
    assert basis == {"C": "siesta:orbitals:C"}
    assert orbitals_of_basis(basis, model)["C"].filename == "C.ion.xml"
    builder = PredictWorkChain.get_builder_from_protocol(engine_code, graphene(), model, "fast")
    assert builder.overlap.orbitals["C"].name == "C"
    # Before the labels are there, nothing of another run is taken.
    assert orbitals_of_basis(basis) == {}


def test_orbitals_of_labels_that_differ(model_of):
    other = siesta_orbitals(
        read_recorded("siesta", "graphene", "C.ion.xml").replace("0.748323984364", "0.748323984365")
    )
    with pytest.raises(InputError, match=r"labels of the model have different orbitals.*C.ion.xml"):
        model = model_of(siesta_orbitals(), other)
        orbitals_of_basis(basis_of(model), model)


@pytest.mark.slow
def test_full_workflow_leaves_the_orbitals_to_the_labels(start, step, code_of, engine_code, model_of):
    codes = {"engine": engine_code, "dft": code_of("siesta")}
    values = {"dataset": {"perturbation": {"n": 4, "amplitude": 0.05, "seed": 1}}}
    values["train"] = {"train": {"parameters": {"split": {"train": 0.5, "validation": 0.25, "test": 0.25, "seed": 1}}}}
    structures, targets = {"graphene": graphene()}, {"large": graphene()}
    process = start(
        FullWorkChain.get_builder_from_protocol(
            codes, structures, targets, None, "fast", values, label="deeph.label.siesta"
        )
    )
    assert {name for name in process.inputs.dataset.label.files} == {"pseudo_C"}
    predict = process.inputs.predict
    assert predict.overlap.parameters["basis"] == {"C": "siesta:orbitals:C"}
    assert not predict.overlap.get("orbitals")
    # The prediction finds them when there is a model.
    model = model_of(siesta_orbitals())
    prediction = start(PredictWorkChain, structure=graphene(), model=model, **predict)
    job = step(prediction, prediction.setup, prediction.run_overlap)["overlap"]
    assert job.inputs.orbitals.C.filename == "C.ion.xml"
