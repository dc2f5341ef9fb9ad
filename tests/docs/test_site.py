"""The documentation: it builds without a warning, its own links lead somewhere, and what it tells to type works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import aiida_deeph
from aiida_deeph.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built with warnings as errors."""
    pytest.importorskip("myst_parser") if os.environ.get("AIIDA_DEEPH_REQUIRE_ALL") != "1" else None
    target = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-d",
        target / ".tree",
        DOCS,
        target,
    ]
    environment = {**os.environ, "AIIDA_PATH": str(tmp_path_factory.mktemp("aiida"))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return target


def test_what_the_code_knows_is_there(site):
    commands = (site / "reference" / "cli.html").read_text()
    assert all(f"aiida-deeph {name}" in commands for name in COMMANDS)
    names = (site / "reference" / "api.html").read_text()
    assert all(name in names for name in aiida_deeph.__all__ if not name.startswith("__"))
    codes = (site / "reference" / "exit_codes.html").read_text()
    assert "ERROR_ALL_TARGETS_FAILED" in codes and "deeph.train" in codes
    fields = (site / "reference" / "inputs.html").read_text()
    assert "max_wallclock_seconds" in fields and "broadening" in fields
    assert "graphene" in (site / "benchmarks.html").read_text()
    assert (site / "searchindex.js").is_file()


def test_every_link_inside_leads_somewhere(site):
    anchors: dict[Path, set[str]] = {}
    dead = []
    for page in site.rglob("*.html"):
        anchors[page] = set(re.findall(r'\bid="([^"]+)"', page.read_text(encoding="utf-8")))
    for page in anchors:
        for link in re.findall(r'<a [^>]*href="([^"]+)"', page.read_text(encoding="utf-8")):
            parts = urlsplit(link)
            outside = parts.scheme or parts.netloc or "README.md" in link  # files of the repository
            if outside or link in ("#", ""):
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            names = anchors.get(target, set())
            if not target.exists() or (parts.fragment and names and unquote(parts.fragment) not in names):
                dead.append(f"{page.name}: {link}")
    assert dead == []


def test_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


def blocks(page: str) -> str:
    """What a page tells to type, as a script that stops at the first failure."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(r"^```bash\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found
    return "set -eo pipefail\n" + "\n".join(found)


@pytest.mark.integration
@pytest.mark.parametrize("page", ["tutorials/deeph_dataset.md", "tutorials/laptop.md"])
def test_tutorial_works_as_it_is_written(page, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONWARNINGS")}
    environment |= {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "AIIDA_PATH": str(tmp_path)}
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        ["bash", "-c", blocks(page)], cwd=work, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    if page.endswith("laptop.md"):
        assert (work / "report.html").stat().st_size > 1e6 and (work / "bands.pdf").read_bytes().startswith(b"%PDF")
        assert "chain_2" in done.stdout, "both structures of the group are in the table"
    else:
        assert (work / "bands.json").is_file() and (work / "model").is_dir()
