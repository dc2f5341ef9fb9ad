"""Contracts speak of everything that is registered: what is new is tested the moment it is registered."""

from tests.aiida.conftest import *  # noqa: F403
