"""What all tests share: data outside the repository, and programs that may be absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

REQUIRE_ALL = os.environ.get("AIIDA_DEEPH_REQUIRE_ALL") == "1"

LONG_GROUPS = ["integration", "services"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "requires(program, ...): skip where a program is absent, or fail if AIIDA_DEEPH_REQUIRE_ALL=1"
    )


def _require_program(*names: str) -> None:
    for name in names:
        if shutil.which(name) is None:
            message = f"program {name} is not on PATH"
            if REQUIRE_ALL:
                pytest.fail(f"{message}, and AIIDA_DEEPH_REQUIRE_ALL=1")
            pytest.skip(message)


def group_of(file: str) -> str:
    """What shares a session fixture is one group, else each file."""
    folder = PurePosixPath(file).parent.name
    return folder if folder in LONG_GROUPS else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long groups first, and marked as slow; in each, those on profiles of their own before the shared one is made."""
    for item in items:
        if group_of(item.nodeid.split("::")[0]) in LONG_GROUPS:
            item.add_marker(pytest.mark.slow)
    rank = {folder: n for n, folder in enumerate(LONG_GROUPS)}

    def place(item: pytest.Item) -> tuple[int, bool]:
        group = group_of(item.nodeid.split("::")[0])
        return rank.get(group, len(rank)), group in rank and item.get_closest_marker("own_profile") is None

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n`, a group goes to one worker. (`--dist loadgroup` of xdist 3.8 does not work with pytest 9.2.)"""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid.split("::")[0])

    return GroupScheduling(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("requires"):
        _require_program(*marker.args)


@pytest.fixture(scope="session")
def require_program() -> Callable[..., None]:
    """Function that skips (or fails, if everything is required) unless all named programs are on PATH."""
    return _require_program


@pytest.fixture(scope="session")
def other_python() -> Callable[[str], str]:
    """Function that gives the Python of an environment of its own, which a variable names; skips or fails without."""

    def find(variable: str) -> str:
        python = os.environ.get(variable, "")
        if not python and REQUIRE_ALL:
            pytest.fail(f"{variable} is not set, and AIIDA_DEEPH_REQUIRE_ALL=1")
        return python or pytest.skip(f"{variable} is not set")

    return find


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with fixtures too large for the repository: `../shared`, or where AIIDA_DEEPH_SHARED points."""
    folder = Path(os.environ.get("AIIDA_DEEPH_SHARED") or Path(__file__).parents[2] / "shared")
    if not (folder / "fixtures").is_dir():
        pytest.skip(f"no shared fixtures in {folder.name}; set AIIDA_DEEPH_SHARED")
    return folder
