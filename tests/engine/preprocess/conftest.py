"""Data whose overlaps belong to their positions, unlike random ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from tests.engine.chain import gaussian_chain


@pytest.fixture
def chain() -> Callable[..., RealSpaceHamiltonian]:
    """Function: H and S of a chain of s Gaussians."""
    return gaussian_chain
