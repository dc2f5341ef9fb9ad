"""What all tests share: data outside the repository, and programs that may be absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares a session fixture goes to one worker of `pytest -n`, the rest file by file, long groups first."""
    for item in items:
        folder = Path(item.path).parent.name
        group = folder if folder in LONG_GROUPS else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: LONG_GROUPS.index(g) if (g := Path(item.path).parent.name) in LONG_GROUPS else 99)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("requires"):
        _require_program(*marker.args)


@pytest.fixture(scope="session")
def require_program() -> Callable[..., None]:
    """Function that skips (or fails, if everything is required) unless all named programs are on PATH."""
    return _require_program


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with fixtures too large for the repository: `../shared`, or where AIIDA_DEEPH_SHARED points."""
    folder = Path(os.environ.get("AIIDA_DEEPH_SHARED") or Path(__file__).parents[2] / "shared")
    if not (folder / "fixtures").is_dir():
        pytest.skip(f"no shared fixtures in {folder.name}; set AIIDA_DEEPH_SHARED")
    return folder
