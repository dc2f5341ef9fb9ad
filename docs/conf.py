"""The documentation site, `sphinx-build -W docs site`; before each build pages are written of what the code knows."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("AIIDA_PATH", tempfile.mkdtemp(prefix="docs-"))
sys.path.insert(0, str(Path(__file__).parent))

import generate

from aiida_deeph import __version__

project, author, version, release = "aiida-deeph", "The aiida-deeph developers", __version__, __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"aiida-deeph {__version__}"
nitpicky = True
# Signatures name types of other packages and of the inside of this one.
nitpick_ignore_regex = [("py:.*", ".*")]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}
# Pages of the repository that are included link to its own files.
suppress_warnings = ["myst.xref_missing", "myst.header"]
generate.write(Path(__file__).parent)


def bars(*arguments: Any) -> None:
    """In docstrings |x| is a size, not one of Sphinx's substitutions."""
    lines = arguments[-1]
    lines[:] = [line.replace("|", "\\|") for line in lines]


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", bars)
