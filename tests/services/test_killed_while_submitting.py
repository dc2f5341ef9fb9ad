"""kill -9 of a worker in the middle of a submission, in each window and at every level of the whole pipeline."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from aiida import orm
from aiida.tools.archive import create_archive

from tests.services.production import presto_profile
from tests.services.tiny import N_LABELS, validated_builder

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

# Every kind of process that a workchain submits, and the windows in which its submission is cut off, in turn.
KILLS = {
    "DatasetWorkChain": ("stored", "stored", "checkpoint"),
    "PyscfCalculation": ("stored", "sent", "checkpoint", "uploaded"),
    "PreprocessCalculation": ("stored", "sent", "uploaded"),
    "TrainWorkChain": ("checkpoint", "stored"),
    "TrainCalculation": ("stored", "checkpoint"),
    "EvaluateCalculation": ("stored",),
    "TargetWorkChain": ("stored", "sent"),
    "PredictWorkChain": ("stored",),
    "PyscfLabelWorkChain": ("stored",),
    "OverlapCalculation": ("checkpoint",),
    "PredictCalculation": ("stored",),
    "BandsWorkChain": ("stored",),
    "BandsCalculation": ("sent", "stored", "uploaded"),
}
JOBS = {
    # The label of the validation structure too.
    "PyscfCalculation": N_LABELS + 1,
    "PreprocessCalculation": 1,
    "TrainCalculation": 1,
    "EvaluateCalculation": 1,
    "OverlapCalculation": 2,
    "PredictCalculation": 2,
    "BandsCalculation": 2,
}


@pytest.mark.own_profile
def test_no_child_is_lost_or_submitted_twice_whenever_its_submission_is_cut_off(tmp_path, monkeypatch):
    tickets = tmp_path / "tickets"
    tickets.mkdir()
    numbered = [(window, process) for process, windows in KILLS.items() for window in windows]
    for number, (window, process) in enumerate(numbered):
        (tickets / f"{number:02d}.{window}.{process}").touch()
    monkeypatch.setenv("DEEPH_KILL_TICKETS", str(tickets))
    # AiiDA hands it on to the daemon.
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "killed"))
    with presto_profile(tmp_path) as presto:
        presto.setup_codes()
        engine = orm.load_code(f"deeph-engine@{presto.computer.label}")
        node = presto.wait(presto.submit(validated_builder(engine)), 900)
        assert node.is_finished_ok, presto.tree(node)
        assert not [name for name in os.listdir(tickets) if not name.endswith(".used")]
        assert Counter(job.process_label for job in presto.jobs(node)) == JOBS
        abandoned = presto.abandoned(node)
        counts = Counter(child.process_label for child in abandoned)
        # Where the daemon knew of a child already, it may have begun it before its parent looked.
        for process, windows in KILLS.items():
            most = len(windows) - windows.count("uploaded")
            assert most - windows.count("sent") <= counts[process] <= most, counts
        assert set(counts) <= set(KILLS)
        assert all("remote_folder" in job.outputs for job in presto.jobs(node))
        for child in abandoned:
            assert child.is_killed and child.is_sealed and "submitted again" in child.process_status
            assert not child.base.links.get_outgoing().all()
        # Nothing is left open: an archive takes sealed processes alone.
        create_archive([node], filename=tmp_path / "run.aiida", call_calc_backward=True)
