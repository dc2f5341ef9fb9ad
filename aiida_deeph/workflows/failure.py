"""Why a process failed, for messages and reports."""

from __future__ import annotations

from aiida import orm

# Exit codes of BaseRestartWorkChain that say nothing of the cause.
UNEXPLAINED = (301, 401, 402)


def reason_of(node: orm.ProcessNode) -> str:
    """Why a process did not succeed, in a few words; if a workchain cannot tell, in the words of its last job."""
    if node.is_excepted:
        return f"excepted: {node.exception}"
    if node.is_killed:
        return "was killed"
    reason = f"[{node.exit_status}] {node.exit_message}"
    if node.exit_status not in UNEXPLAINED:
        return reason
    failed = [child for child in node.called if child.is_failed or child.is_excepted]
    if not failed:
        return reason
    last = max(failed, key=lambda child: child.pk)
    return f"{reason} {last.process_label}<{last.pk}>: {reason_of(last)}"
