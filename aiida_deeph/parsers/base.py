"""What all parsers share: outputs first, then the verdict of the scheduler, then that of the engine.

The engine's exit status is not seen here: a job script ends with the status of its last line, which user, code and
computer may each append to. The verdict is read from what the engine leaves: its result files, which it writes in one
step when all is done, and the line `deeph-engine: ...` on stderr, which names every failure. A job without either was
killed.
"""

from __future__ import annotations

import errno
import json
import math
import re
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida.engine import ExitCode
from aiida.orm import Dict
from aiida.parsers import Parser

from aiida_deeph.calculations.space import NO_SPACE
from aiida_deeph.calculations.staging import STDERR_FILE
from aiida_deeph.engine.errors import MACHINE_ERRORS, DeepHError

ENGINE_LINE = re.compile(r"^deeph-engine: (?P<message>.+)$", re.MULTILINE)
# What the system says where no other input would help: nothing goes on before somebody has mended the machine.
NO_SPACE_WORDS = "|".join(sorted({text for number, text in MACHINE_ERRORS.items() if number != errno.ENOMEM}))
# Messages of the engine, of Python, torch and the shell -> exit code; the first that is found counts.
MESSAGES: tuple[tuple[str, str], ...] = (
    (r"out of memory|unexpected MemoryError|Unable to allocate|[Cc]an(no|')t allocate memory", "ERROR_OUT_OF_MEMORY"),
    # What schedulers write of a job that they killed, where their accounting does not tell.
    (r"oom.?kill|out-of-memory handler|[Ee]xceeded (job |step )?memory limit|TERM_MEMLIMIT", "ERROR_OUT_OF_MEMORY"),
    (rf"{NO_SPACE_WORDS}|errno = (5|27|28|122)\b", "ERROR_NO_SPACE"),
    (r"^deeph-engine: wrong input: ", "ERROR_INPUT_REFUSED"),
    (r"^deeph-engine: |command not found|Permission denied|^Error: |Traceback", "ERROR_ENGINE_FAILED"),
)


# Exit statuses that a full disk may be behind: the engine failed, an output is damaged or missing.
UNEXPLAINED = (310, 320, 400)


class MissingOutputError(Exception):
    """An output file is not there."""


class InvalidOutputError(Exception):
    """An output file is there but does not hold what it should."""


class EngineParser(Parser):
    """A subclass attaches its outputs in `attach` and returns an exit code if the results themselves ask for one."""

    # Key of output_parameters -> unit, written as KEY_units.
    UNITS: Mapping[str, str] = {}
    # Like the table MESSAGES, for exit codes of this job alone; looked at first.
    MESSAGES: tuple[tuple[str, str], ...] = ()

    def parse(self, **kwargs) -> ExitCode | None:
        """Attach whatever is there; a scheduler's verdict (110 memory, 120 walltime, 140 node) is kept."""
        self._temporary = Path(kwargs.get("retrieved_temporary_folder") or "None")
        try:
            verdict = self.attach()
        except MissingOutputError as error:
            verdict = self.failure(f"{error} is missing")
        except (InvalidOutputError, DeepHError) as error:
            verdict = self.exit_codes.ERROR_OUTPUT_INVALID.format(message=error)
        if verdict is not None and verdict.status in UNEXPLAINED:
            said = self._text(self.node.get_option("scheduler_stdout") or "") or ""
            if NO_SPACE in said.splitlines():
                verdict = self.exit_codes.ERROR_NO_SPACE.format(message=verdict.message)
        return self._scheduler_verdict() or verdict

    @abstractmethod
    def attach(self) -> ExitCode | None:
        """Register the outputs.

        :raises MissingOutputError: a result is not there; stderr then tells why.
        :raises InvalidOutputError: a result is damaged.
        """

    def failure(self, missing: str) -> ExitCode:
        """The exit code of a job without its results.

        :param missing: said when stderr is silent, as after a kill.
        """
        text = "\n".join(
            self._text(name) or "" for name in (STDERR_FILE, self.node.get_option("scheduler_stderr")) if name
        )
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        engine = ENGINE_LINE.findall(text)
        message = engine[-1] if engine else (lines[-1] if lines else f"{missing} and stderr is silent")
        judged = f"deeph-engine: {message}" if engine else text
        for pattern, label in (*self.MESSAGES, *MESSAGES):
            if re.search(pattern, judged, re.MULTILINE):
                return self.exit_codes[label].format(message=message)
        return self.exit_codes.ERROR_OUTPUT_MISSING.format(
            message=f"{missing}; last on stderr: {message}" if lines else message
        )

    def out_parameters(self, values: Mapping[str, Any]) -> None:
        """Register `output_parameters`, with units beside the keys that have one."""
        values = _finite(dict(values))
        units = {f"{key}_units": unit for key, unit in self.UNITS.items() if key in values}
        self.out("output_parameters", Dict({**values, **units}))

    def read_json(self, name: str) -> dict[str, Any]:
        """A retrieved JSON object.

        :raises MissingOutputError: no such file.
        :raises InvalidOutputError: no JSON object.
        """
        text = self.text(name)
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InvalidOutputError(f"{name}: {error}") from None
        if not isinstance(values, dict):
            raise InvalidOutputError(f"{name}: found {type(values).__name__}, expected an object")
        return values

    def temporary_file(self, name: str) -> Path:
        """A file that was retrieved for the parser alone.

        :raises MissingOutputError: it did not come.
        """
        path = self._temporary / name
        if not path.is_file():
            raise MissingOutputError(name)
        return path

    def temporary_folder(self, name: str) -> Path:
        """A folder that was retrieved for the parser alone.

        :raises MissingOutputError: it did not come.
        """
        path = self._temporary / name
        if not path.is_dir() or not any(path.iterdir()):
            raise MissingOutputError(name)
        return path

    def text(self, name: str) -> str:
        """Content of a retrieved file.

        :raises MissingOutputError: no such file.
        """
        text = self._text(name)
        if text is None:
            raise MissingOutputError(name)
        return text

    def _text(self, name: str) -> str | None:
        """Content of a retrieved file; None if it is absent. Bytes that are no text are replaced."""
        try:
            return self.retrieved.base.repository.get_object_content(name, mode="rb").decode("utf-8", errors="replace")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None

    def _scheduler_verdict(self) -> ExitCode | None:
        """The exit code that the scheduler's own parser has set before."""
        status = self.node.exit_status
        if not status:
            return None
        known = {code.status: code for code in self.exit_codes.values()}
        return known.get(status, ExitCode(status, self.node.exit_message))


def _finite(value: Any) -> Any:
    """NaN and infinity, which JSON does not know, become None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
