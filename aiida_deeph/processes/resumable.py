"""Outline steps that may run twice: what was submitted before a kill is found again, not submitted again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import ExitCode, Process, ProcessState, ToContext, append_
from kiwipy.communications import UnroutableError

from aiida_deeph.calculations.daemon import attend
from aiida_deeph.processes.aiida_internals import ConnectionClosed, OutlineMixin, RestartHost

# Extra of a child that never began, and why: the step that submitted it was killed before the daemon knew of it.
ABANDONED = "deeph_abandoned"
CALLS = (LinkType.CALL_CALC, LinkType.CALL_WORK)


def abandon(node: orm.ProcessNode, reason: str) -> bool:
    """Take a child out of the game: killed, sealed and marked, so that nobody runs, waits for or counts it.

    A task that the daemon may hold for it is dropped, since it has ended; if a worker begins it at this very moment,
    its next change of state fails, for the node is sealed, before a job is uploaded or a child called.

    :returns: False if it had begun after all.
    """
    node.base.extras.set(ABANDONED, reason)
    if not node.is_sealed:
        node.set_process_status(reason)
        node.delete_checkpoint()
        node.set_process_state(ProcessState.KILLED)
        node.seal()
    if node.is_sealed:
        return True
    node.base.extras.delete(ABANDONED)
    return False


def never_began(node: orm.ProcessNode) -> bool:
    """Whether the last child that a process submitted was cut off there: before it was known to the daemon, or, taken
    from the cache, before it had its outputs."""
    if node.is_sealed:
        return False
    if node.process_state in (None, ProcessState.CREATED) or ABANDONED in node.base.extras:
        return True
    cut_off = isinstance(node, orm.CalcJobNode) and node.is_finished and node.checkpoint is None
    return cut_off and not node.base.caching.is_created_from_cache


def process_node(pk: int) -> orm.ProcessNode:
    """The process of a pk."""
    node = orm.load_node(pk)
    assert isinstance(node, orm.ProcessNode)
    return node


class ResumableMixin(OutlineMixin):
    """For WorkChains: a child is known by the label of its CALL link.

    A step that was killed half-way runs again from its beginning when the daemon is back; children that it had
    submitted are already linked to the parent, so that looking them up by their label makes the step safe to repeat.
    The last of them may have been cut off before the daemon knew of it: it is abandoned and submitted again.
    """

    def init(self) -> None:
        """As of every process; its worker gets what it needs."""
        super().init()
        attend(self)

    def child(self, label: str) -> orm.ProcessNode | None:
        """The child that was called under this label, if there is one that was not abandoned."""
        links = self.node.base.links.get_outgoing(link_type=CALLS, link_label_filter=label).all()
        known = [link.node.pk or 0 for link in links if ABANDONED not in link.node.base.extras]
        return process_node(max(known)) if known else None

    def awaited(self) -> set[int]:
        """pks of children that the last checkpoint knows: their submission was completed."""
        return set()

    def submit_once(
        self,
        process_class: type[Process],
        inputs: Mapping[str, Any],
        *,
        name: str,
        label: str,
        description: str,
        told: bool = True,
    ) -> orm.ProcessNode:
        """Submit a child unless it was submitted before.

        :param name: label of the CALL link.
        :param label: label of the child, as `verdi process list` can show it.
        :param description: one sentence saying what the child is for.
        :param told: whether the log of this process says so; of a thousand alike it need not.
        """
        known = self.submitted(name)
        if known is not None:
            return known
        names = {"call_link_label": name, "label": label, "description": description}
        metadata = {**inputs.get("metadata", {}), **names, **self.caching()}
        node: orm.ProcessNode = self.submit(process_class, **{**inputs, "metadata": metadata})
        self._called_names().add(name)
        if told:
            self.report(f"{label}: submitted as {node.process_label}<{node.pk}>")
        return node

    def submitted(self, name: str) -> orm.ProcessNode | None:
        """The child that was submitted under this label, by this step or by one that was killed."""
        return self.child(name) if name in self._called_names() else None

    def _called_names(self) -> set[str]:
        """Labels of the calls that were submitted, read from the graph once in the life of this process."""
        known: set[str] | None = self.__dict__.get("_submitted_calls")
        if known is None:
            query = orm.QueryBuilder().append(orm.ProcessNode, filters={"id": self.node.pk}, tag="parent")
            calls = {"type": {"in": [call.value for call in CALLS]}}
            query.append(
                orm.ProcessNode,
                with_incoming="parent",
                edge_filters=calls,
                project=["id", f"extras.{ABANDONED}"],
                edge_project="label",
            )
            rows = query.all()
            known = self.__dict__["_submitted_calls"] = {name for _, abandoned, name in rows if abandoned is None}
            last = max((pk for pk, _, _ in rows), default=None)
            if last is not None and last not in self.awaited():
                self._abandon_if_cut_off(process_node(last))
        return known

    def _abandon_if_cut_off(self, node: orm.ProcessNode) -> None:
        reason = "its submission was cut off; submitted again"
        if never_began(node) and abandon(node, reason):
            self.report(f"{node.process_label}<{node.pk}> never began: {reason}")
            (link,) = node.base.links.get_incoming(link_type=CALLS).all()
            self._called_names().discard(link.link_label)

    def call_once(self, function: Callable[..., Any], name: str, /, **inputs: Any) -> Any:
        """Outputs of a calcfunction, taken from an earlier call under the same name if that finished."""
        known = self.child(name)
        if known is not None and known.is_finished_ok and known.is_sealed:
            outputs = {
                link.link_label: link.node for link in known.base.links.get_outgoing(link_type=LinkType.CREATE).all()
            }
            return outputs["result"] if set(outputs) == {"result"} else outputs
        if known is not None and not known.is_sealed:
            abandon(known, "was cut off; called again")
        return function(**inputs, metadata={"call_link_label": name, "label": name, **self.caching()})

    def attach(self, node: orm.ProcessNode, *names: str) -> None:
        """Outputs of a child as those of this process, as far as they are there."""
        for name in names:
            if name in node.outputs:
                self.out(name, node.outputs[name])

    def failure(self, exit_code: ExitCode, node: orm.ProcessNode, **values: Any) -> ExitCode:
        """An exit code whose message tells why a child failed: by `{reason}`, or by `{status}` and `{message}`."""
        found: dict[str, Any] = {"status": node.exit_status, "message": node.exit_message, "reason": reason_of(node)}
        failed: ExitCode = exit_code.format(**found, **values)
        return failed

    def caching(self) -> dict[str, bool]:
        """Metadata of a child: what this process shall not take from the cache, its children shall not either."""
        return {"disable_cache": True} if self.inputs.metadata.get("disable_cache") else {}

    def kill(self, msg_text: str | None = None, force_kill: bool = False) -> Any:
        """End this process and its children.

        By force, AiiDA would end this one alone and leave its children running. They are told to end here, without
        force, so that their jobs are cancelled; nobody waits for them, since force is used when waiting is of no use.
        """
        controller = self.runner.controller
        if force_kill and not self.has_terminated() and controller is not None:
            for child in self.node.called:
                if isinstance(child, orm.CalcJobNode | orm.WorkChainNode) and not child.is_terminated:
                    with suppress(ConnectionClosed, UnroutableError):
                        controller.kill_process(child.pk, msg_text=f"Killed by parent<{self.node.pk}>")
        return super().kill(msg_text, force_kill)


# Exit codes of BaseRestartWorkChain, which say nothing of the cause.
UNEXPLAINED = (301, 302, 401, 402)


class ResumableRestartMixin(ResumableMixin, RestartHost):
    """For subclasses of BaseRestartWorkChain: its submission made repeatable, and children that carry a label."""

    def run_process(self) -> ToContext[str, Any]:
        """Run the next process unless this very iteration was already submitted."""
        name = f"iteration_{self.ctx.iteration + 1:02d}"
        node = self.submitted(name)
        if node is not None:
            self.ctx.iteration += 1
            return ToContext(children=append_(node))
        metadata = self.ctx.inputs.setdefault("metadata", {})
        metadata.setdefault("label", self.node.label)
        metadata.setdefault("description", self.node.description)
        metadata.update(self.caching())
        result: ToContext[str, Any] = super().run_process()
        self._called_names().add(name)
        return result

    def inspect_process(self) -> ExitCode | None:
        """As of every restart workchain; where that gives up, it says why the last process failed."""
        verdict: ExitCode | None = super().inspect_process()
        if verdict is None or verdict.status not in UNEXPLAINED:
            return verdict
        node = self.ctx.children[self.ctx.iteration - 1]
        return ExitCode(verdict.status, f"{verdict.message} {node.process_label}<{node.pk}>: {self.why(node)}")

    def why(self, node: orm.ProcessNode) -> str:
        """Why one of the processes failed."""
        return reason_of(node)


def reason_of(node: orm.ProcessNode) -> str:
    """Why a process did not succeed, in a few words."""
    if node.is_excepted:
        return f"excepted: {node.exception}"
    return "was killed" if node.is_killed else f"[{node.exit_status}] {node.exit_message}"
