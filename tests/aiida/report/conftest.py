"""The pipeline of an archive that version 0.1.0 wrote, alone in the profile while the tests of a module run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from aiida import orm
from aiida.tools.archive import import_archive

from tests.aiida.commands import run_command

ARCHIVE = Path(__file__).parents[2] / "fixtures" / "archives" / "full_0.1.0.aiida"


@pytest.fixture(scope="module")
def full(aiida_profile):
    """The workchain of everything."""
    aiida_profile.reset_storage()
    import_archive(ARCHIVE)
    filters = {"process_type": "aiida.workflows:deeph.full"}
    yield orm.QueryBuilder().append(orm.WorkChainNode, filters=filters).first(flat=True)
    aiida_profile.reset_storage()


@pytest.fixture
def run(full, aiida_profile) -> Callable[..., str]:
    """Function that runs `aiida-deeph ARGUMENTS` and returns its output; an error of ours is raised."""
    return partial(run_command, aiida_profile)
