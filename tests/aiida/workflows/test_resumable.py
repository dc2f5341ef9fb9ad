"""Steps that run again after a kill: what never began is submitted again, what began is not."""

from __future__ import annotations

import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import ProcessState, WorkChain
from aiida.plugins import CalculationFactory

from aiida_deeph.processes.resumable import ABANDONED, ResumableMixin, never_began

Add = CalculationFactory("core.arithmetic.add")


class Parent(ResumableMixin, WorkChain):
    """Submits one job."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("code", valid_type=orm.AbstractCode)
        spec.outline(cls.work)

    def work(self):
        """The job, under its name."""
        options = {"resources": {"num_machines": 1}}
        inputs = {"x": orm.Int(1), "y": orm.Int(2), "code": self.inputs.code, "metadata": {"options": options}}
        return self.submit_once(Add, inputs, name="add", label="add", description="one and two")


@pytest.fixture
def lives(start, aiida_code_installed):
    """Function that gives the parent a further life, with nothing in memory of the one before."""
    code = aiida_code_installed(default_calc_job_plugin="core.arithmetic.add", filepath_executable="/bin/bash")
    parent = start(Parent, code=code)

    def revive():
        parent.__dict__.pop("_submitted_calls", None)
        return parent

    return revive


def calls(parent):
    links = parent.node.base.links.get_outgoing(link_type=LinkType.CALL_CALC, link_label_filter="add").all()
    return sorted((link.node for link in links), key=lambda node: node.pk)


def leave(node, state, *, checkpoint=False, sealed=False):
    """A child as a kill leaves it."""
    node.set_process_state(state)
    node.set_checkpoint("...") if checkpoint else node.delete_checkpoint()
    if sealed:
        node.seal()


@pytest.mark.parametrize(("state", "checkpoint"), [(None, False), ("created", False), ("created", True)])
def test_a_child_that_never_began_is_marked_and_submitted_again_once(lives, step, state, checkpoint):
    first = step(lives(), lives().work)
    for _ in range(3):
        leave(first, state, checkpoint=checkpoint)
        second = step(lives(), lives().work)
        assert second.pk != first.pk
        assert first.is_killed and first.is_sealed and first.checkpoint is None
        assert "submitted again" in first.base.extras.get(ABANDONED) == first.process_status
        assert not first.base.caching.is_valid_cache
        assert lives().child("add").pk == second.pk
        first = second
    leave(first, "running", checkpoint=True)
    assert step(lives(), lives().work).pk == first.pk
    assert [ABANDONED in node.base.extras for node in calls(lives())] == [True, True, True, False]


@pytest.mark.parametrize("state", ["running", "waiting", "excepted", "killed", "finished"])
def test_a_child_that_began_or_ended_is_never_submitted_again(lives, step, state):
    node = step(lives(), lives().work)
    ended = state in ("excepted", "killed", "finished")
    leave(node, state, checkpoint=not ended, sealed=ended)
    assert step(lives(), lives().work).pk == node.pk
    assert len(calls(lives())) == 1 and ABANDONED not in node.base.extras


def test_a_kill_while_a_child_is_abandoned_leaves_nothing_half_done(lives, step):
    node = step(lives(), lives().work)
    leave(node, None)
    node.base.extras.set(ABANDONED, "its submission was cut off; submitted again")
    second = step(lives(), lives().work)
    assert node.is_killed and node.is_sealed and second.pk != node.pk


def test_a_child_from_the_cache_without_its_outputs_is_submitted_again(lives, step):
    node = step(lives(), lives().work)
    # What AiiDA stores before the outputs of the job that it was taken from.
    leave(node, "finished")
    second = step(lives(), lives().work)
    assert second.pk != node.pk and node.is_sealed
    leave(second, "finished")
    second.base.extras.set("_aiida_cached_from", "somewhere")
    assert step(lives(), lives().work).pk == second.pk


def test_a_child_whose_submission_the_checkpoint_knows_waits_for_its_turn(lives, step, monkeypatch):
    node = step(lives(), lives().work)
    leave(node, "created", checkpoint=True)
    monkeypatch.setattr(Parent, "awaited", lambda self: {node.pk})
    assert step(lives(), lives().work).pk == node.pk
    assert never_began(node)


def test_an_abandoned_child_can_neither_run_nor_call(lives, step):
    node = step(lives(), lives().work)
    leave(node, None)
    step(lives(), lives().work)
    with pytest.raises(Exception, match="sealed"):
        node.set_process_state(ProcessState.RUNNING)
