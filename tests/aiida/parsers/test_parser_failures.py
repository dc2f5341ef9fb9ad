"""What all parsers make of jobs that failed: which exit code, which message."""

from __future__ import annotations

import json

import pytest
from aiida.plugins import CalculationFactory
from aiida.plugins.entry_point import get_entry_point_names

from aiida_deeph.calculations.space import NO_SPACE

pytestmark = pytest.mark.usefixtures("aiida_profile")

COMMANDS = sorted(name for name in get_entry_point_names("aiida.calculations") if name.startswith("deeph."))


@pytest.mark.parametrize("entry_point", COMMANDS)
def test_silent_death_is_retryable(parse, entry_point):
    _, node = parse(entry_point, {"deeph.out": "", "deeph.err": ""})
    assert node.exit_status == 400
    assert "is missing and stderr is silent" in node.exit_message


@pytest.mark.parametrize(
    ("stderr", "status", "words"),
    [
        ("deeph-engine: first\nprogress\ndeeph-engine: H is not Hermitian; in x\n", 310, "H is not Hermitian; in x"),
        ("deeph-engine: wrong input: 1 wrong field(s), first: folder; in config.json\n", 210, "first: folder"),
        ("deeph-engine: unexpected OutOfMemoryError: CUDA out of memory. Tried\n", 430, "CUDA out of memory"),
        ("deeph-engine: unexpected MemoryError:  (run again)\n", 430, "MemoryError"),
        ("deeph-engine: unexpected OSError: [Errno 28] No space left on device\n", 440, "No space left"),
        ("deeph-engine: result cannot be written; found Disk quota exceeded\n", 440, "quota"),
        ("deeph-engine: Input/output error; in deeph/hamiltonian.h5; remedy: mend it\n", 440, "Input/output"),
        ("deeph-engine: Stale file handle; in x\n", 440, "Stale file handle"),
        ("deeph-engine: Read-only file system; in x\n", 440, "Read-only"),
        ("deeph-engine: Cannot allocate memory; in x\n", 430, "Cannot allocate memory"),
        ("deeph-engine: H is not Hermitian; found errno = 28000\n", 310, "Hermitian"),
        ("/bin/bash: line 1: deeph-engine: command not found\n", 310, "command not found"),
        ("Traceback (most recent call last):\n  ...\nImportError: no numpy\n", 310, "ImportError: no numpy"),
        ("slurmstepd: error: *** JOB 7 CANCELLED ***\n", 400, "CANCELLED"),
        ("SomeWarning: harmless\n", 400, "bands.json is missing; last on stderr: SomeWarning: harmless"),
    ],
)
def test_stderr_decides(parse, stderr, status, words):
    _, node = parse("deeph.bands", {"deeph.err": stderr})
    assert node.exit_status == status
    assert words in node.exit_message


def test_stderr_of_the_scheduler_counts_too(parse):
    _, node = parse("deeph.bands", {"deeph.err": "", "_scheduler-stderr.txt": "cannot write: Disk quota exceeded"})
    assert node.exit_status == 440


@pytest.mark.parametrize("entry_point", COMMANDS)
def test_full_disk_without_a_word_of_the_program_is_told_by_the_job_script(parse, entry_point):
    _, node = parse(entry_point, {"deeph.err": "", "_scheduler-stdout.txt": f"{NO_SPACE}\n"})
    assert node.exit_status == 440


def test_results_on_a_disk_that_is_full_by_now_are_results(parse):
    text = json.dumps({"energies": [[[1.0]]], "kpoints": [[0.0, 0.0, 0.0]], "cell": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]})
    _, node = parse("deeph.bands", {"bands.json": text, "_scheduler-stdout.txt": f"{NO_SPACE}\n"})
    assert not node.exit_status


def test_no_stderr_at_all(parse):
    _, node = parse("deeph.bands", {})
    assert node.exit_status == 400


@pytest.mark.parametrize("status", [110, 120, 140])
@pytest.mark.parametrize("entry_point", COMMANDS)
def test_verdict_of_the_scheduler_is_kept(parse, entry_point, status):
    files = {"deeph.err": "deeph-engine: something else\n"}
    _, node = parse(entry_point, files, scheduler_status=status)
    assert node.exit_status == status
    assert node.exit_message == CalculationFactory(entry_point).spec().exit_codes(status).message


def test_verdict_that_aiida_does_not_know_is_kept(parse):
    _, node = parse("deeph.bands", {}, scheduler_status=131)
    assert node.exit_status == 131


@pytest.mark.parametrize(
    "text", ["", "{", "[]", json.dumps({"energies": [[[1.0]]]}), '{"energies": "x", "kpoints": 1}']
)
def test_damaged_result(parse, text):
    _, node = parse("deeph.bands", {"bands.json": text})
    assert node.exit_status == 320
    assert node.exit_message.startswith("An output file is damaged: bands.json") or "bands:" in node.exit_message


@pytest.mark.parametrize("entry_point", COMMANDS)
def test_exit_codes_follow_the_house_rule(entry_point):
    """2xx wrong inputs, 3xx unrecoverable: never from the cache; 4xx restartable, 7xx a warning."""
    for code in CalculationFactory(entry_point).spec().exit_codes.values():
        if 200 <= code.status < 400:
            assert code.invalidates_cache, code
        if code.status >= 200:
            assert code.status // 100 in (2, 3, 4, 7), code
    # what a retry with the same inputs must not take from the cache
    transient = {
        code.status for code in CalculationFactory(entry_point).spec().exit_codes.values() if code.invalidates_cache
    }
    assert {400, 430, 440} <= transient
