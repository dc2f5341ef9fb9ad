"""Protocols: every set of inputs is complete, and what is not a port is refused."""

from __future__ import annotations

import pytest
from aiida import orm
from aiida.plugins import WorkflowFactory
from aiida.plugins.entry_point import get_entry_point_names

from aiida_deeph.engine.errors import InputError
from aiida_deeph.processes.protocol import check_overrides, merge

WORKFLOWS = sorted(name for name in get_entry_point_names("aiida.workflows") if name.startswith("deeph."))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_protocol_holds_ports_only(name):
    workflow = WorkflowFactory(name)
    protocols = workflow.get_available_protocols()
    assert list(protocols) == ["fast", "balanced", "stringent"]
    assert workflow.get_default_protocol() == "balanced"
    content = workflow._protocol_content()
    for protocol, description in protocols.items():
        assert description.endswith(".")
        inputs = workflow.get_protocol_inputs(protocol)
        check_overrides(
            workflow.protocol_ports(), {k: v for k, v in inputs.items() if k not in content.get("derived", ())}, name
        )


@pytest.mark.parametrize(
    ("name", "overrides", "where", "key"),
    [
        ("deeph.label.pyscf", {"paramters": {}}, "overrides", "paramters"),
        ("deeph.dataset", {"preprocess": {"metadata": {"option": {}}}}, "overrides.preprocess.metadata", "option"),
        ("deeph.train", {"train": {"parameter": {}}}, "overrides.train", "parameter"),
        (
            "deeph.bands",
            {"dos": {"metadata": {"options": {"walltime": 1}}}},
            "overrides.dos.metadata.options",
            "walltime",
        ),
        ("deeph.full", {"datasets": {}}, "overrides", "datasets"),
    ],
)
def test_unknown_override_is_named(name, overrides, where, key):
    with pytest.raises(InputError, match=rf"unknown key; in {where}; found {key}; expected one of "):
        WorkflowFactory(name).get_protocol_inputs("fast", overrides)


def test_gpus_per_node_is_no_unknown_key():
    inputs = WorkflowFactory("deeph.train").get_protocol_inputs(
        "fast", {"train": {"metadata": {"options": {"gpus_per_node": 1}}}}
    )
    assert inputs["train"]["metadata"]["options"]["gpus_per_node"] == 1


def test_unknown_protocol():
    with pytest.raises(InputError, match=r"unknown protocol.*found fastest; expected one of fast, balanced, stringent"):
        WorkflowFactory("deeph.full").get_protocol_inputs("fastest")


def test_merge_leaves_its_arguments_alone():
    base, changes = {"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": None}
    assert merge(base, changes) == {"a": {"b": 3, "c": 2}, "d": None}
    assert base == {"a": {"b": 1, "c": 2}}


def test_no_protocol_holds_a_node():
    for name in WORKFLOWS:
        for protocol in WorkflowFactory(name).get_available_protocols():
            assert not any(
                isinstance(v, orm.Node) for v in WorkflowFactory(name).get_protocol_inputs(protocol).values()
            )


def test_another_network_takes_the_place_of_the_protocols():
    train = WorkflowFactory("deeph.train")

    def network(protocol, **changes):
        overrides = {"train": {"parameters": {"network": changes}}} if changes else None
        return train.get_protocol_inputs(protocol, overrides)["train"]["parameters"]["network"]

    assert network("fast") == {"name": "closed-form"}
    assert network("balanced") == {"name": "deephe3-residual"}
    assert network("fast", name="deephe3", lmax=2) == {"name": "deephe3", "lmax": 2}
    assert network("fast", lmax=2) == {"name": "deephe3", "lmax": 2}, "without a name: the published one, as ever"
    assert network("stringent", name="deephe3-residual", lmax=2)["irreps_embed"] == "128x0e"
