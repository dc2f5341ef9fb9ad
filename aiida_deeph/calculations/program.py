"""Which program a code runs: with other bytes or another version behind the same path, earlier results are not its own.

AiiDA takes a job from its cache if all that is hashed is equal; a code is hashed by its path. Here the identity of the
program goes into the job script, a comment among the options that are hashed. What only says how a job uses its
machine is taken out of the hashed parameters.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from aiida.common.datastructures import CalcJobState
from aiida.common.links import LinkType
from aiida.engine import CalcJob
from aiida.orm import AbstractCode, Dict, InstalledCode, RemoteData, load_node
from plumpy.persistence import LoadSaveContext

from aiida_deeph.calculations.daemon import attend
from aiida_deeph.calculations.validation import runs_engine

# Extra of a code on another machine: what `ask_program` has found there.
PROGRAM = "deeph_program"
MARK = "# program: "
LOCAL = "core.local"
FOLDER = "remote_folder"
# Fields of configurations that change how fast a result is there, not the result.
RUNTIME = frozenset({"device", "loader_workers", "threads", "workers"})


class ProgramCalcJob(CalcJob):
    """A job whose hash holds which program runs, and that keeps its folder when its worker is killed."""

    def __init__(self, inputs: Mapping[str, Any] | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(self.hashed_inputs(dict(inputs or {})), *args, **kwargs)

    def init(self) -> None:
        """As of every process; its worker gets what it needs."""
        super().init()
        attend(self)

    def load_instance_state(self, saved_state: Any, load_context: LoadSaveContext) -> None:
        """Attach the folder if it is missing: AiiDA marks a job as uploaded before it stores that output, and does not
        upload it again if it is killed in between; the job would end well, without its folder."""
        super().load_instance_state(saved_state, load_context)
        workdir = self.node.get_remote_workdir()
        if not workdir or self.node.get_state() in (None, CalcJobState.UPLOADING):
            return
        if not self.node.base.links.get_outgoing(link_label_filter=FOLDER).all():
            folder = RemoteData(computer=self.node.computer, remote_path=workdir)
            folder.base.links.add_incoming(self.node, LinkType.CREATE, FOLDER)
            folder.store()
            self.out(FOLDER, folder)

    @classmethod
    def hashed_inputs(cls, inputs: dict[str, Any]) -> dict[str, Any]:
        """Inputs with the program among the options."""
        if not isinstance(inputs.get("code"), AbstractCode):
            return inputs
        metadata = dict(inputs.get("metadata") or {})
        options = with_program(metadata.get("options") or {}, inputs["code"])
        resources = cls.spec_options["resources"]
        if options and resources.has_default():
            # Recorded beside the program, for AiiDA restores all options of a job or none.
            options.setdefault("resources", resources.default())
        return {**inputs, "metadata": {**metadata, "options": options}}


def with_program(options: Mapping[str, Any], code: AbstractCode) -> dict[str, Any]:
    """Options of a job, in whose script a comment says which program runs, as far as that is known."""
    kept = [line for line in str(options.get("prepend_text") or "").splitlines() if not line.startswith(MARK)]
    known = program_of(code)
    lines = kept if known is None else [*kept, MARK + known]
    if not lines and "prepend_text" not in options:
        return dict(options)
    return {**options, "prepend_text": "\n".join(lines)}


def program_of(code: AbstractCode) -> str | None:
    """Identity of the program behind a code: looked at on this machine, as it was last found on another one.

    None if nobody knows, or if the code itself says it: a container by its image, a portable code by its files.
    """
    if not isinstance(code, InstalledCode) or code.computer is None:
        return None
    found = shutil.which(str(code.filepath_executable)) if code.computer.transport_type == LOCAL else None
    if found is None:
        recorded: str | None = code.base.extras.get(PROGRAM, None)
        return recorded
    status = Path(found).stat()
    return _identity(found, status.st_mtime_ns, status.st_size, says_version(code))


@functools.lru_cache(maxsize=256)
def _identity(path: str, mtime_ns: int, size: int, says_version: bool) -> str:
    """Digest of a file, and the version that the program says; asked anew when the file is another one."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    version = ""
    if says_version:
        # Where it may leave what it likes, should it be a script of the user that knows no `--version`.
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run([path, "--version"], cwd=folder, capture_output=True, text=True, timeout=20)
            version = done.stdout if done.returncode == 0 else ""
    return identity(digest.hexdigest(), version)


def identity(digest: str, version: str) -> str:
    """One line out of the sha256 of a program and what it says to `--version`."""
    words = re.sub(r"[^\w.,+-]+", " ", version.strip().splitlines()[0] if version.strip() else "").strip()
    return f"{words[:80]} sha256:{digest[:16]}".strip()


def says_version(code: AbstractCode) -> bool:
    """Whether a program is the engine: it knows `--version`, and the script that starts it is the same in each."""
    return runs_engine(code.default_calc_job_plugin)


def ask_program(code: AbstractCode) -> str | None:
    """Look at the program behind a code where it lies, and keep in the code's extras what is found.

    :returns: its identity, None if there is no such file.
    """
    if not isinstance(code, InstalledCode) or code.computer is None:
        return None
    if code.computer.transport_type != LOCAL:
        path = shlex.quote(str(code.filepath_executable))
        version = f"timeout 60 {path} --version < /dev/null" if says_version(code) else "true"
        script = f'{code.prepend_text}\nsha256sum "$(command -v {path})" && {version}'
        with code.computer.get_transport() as transport:
            _, answer, _ = transport.exec_command_wait(f"bash -c {shlex.quote(script)}")
        found = re.search(r"^\\?([0-9a-f]{64})\s.*$\n?", answer, flags=re.MULTILINE)
        if found is None:
            code.base.extras.set(PROGRAM, None)
        else:
            code.base.extras.set(PROGRAM, identity(found[1], answer[found.end() :]))
    return program_of(code)


def split_runtime(parameters: Dict, fields: frozenset[str]) -> tuple[Dict, dict[str, Any]]:
    """Parameters without what leaves the result as it is, and that.

    :param fields: what the configuration has.
    """
    values = parameters.get_dict()
    runtime = {key: values[key] for key in RUNTIME & fields if key in values}
    if not runtime:
        return parameters, {}
    taken = frozenset(runtime)
    return _left_of_stored(parameters.uuid, taken) if parameters.is_stored else _left_of(parameters, taken), runtime


def _left_of(parameters: Dict, taken: frozenset[str]) -> Dict:
    return Dict({key: value for key, value in parameters.get_dict().items() if key not in taken})


@functools.lru_cache(maxsize=64)
def _left_of_stored(uuid: str, taken: frozenset[str]) -> Dict:
    """Made once: a thousand jobs that share their parameters share what is left of them, too."""
    return _left_of(cast(Dict, load_node(uuid)), taken)
