"""The toy dataset, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiida_deeph.engine.training.data import GraphSet
from tests.engine.training.toy import toy_sets, write_toy_dataset


@pytest.fixture(scope="session")
def toy_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten members without spin."""
    return write_toy_dataset(tmp_path_factory.mktemp("toy"), range(10))


@pytest.fixture(scope="session")
def graphs(toy_dataset: Path) -> list[GraphSet]:
    """Six training and two validation graphs."""
    return toy_sets(toy_dataset, 6, 2)
