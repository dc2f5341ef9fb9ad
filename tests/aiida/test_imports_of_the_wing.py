"""The AiiDA wing is light: a daemon worker that loads it does not load torch."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "torch_geometric", "e3nn", "lightning", "lightning_fabric", "pyscf")
PROGRAM = """
import importlib, pkgutil, sys
import aiida_deeph.calculations, aiida_deeph.data, aiida_deeph.parsers
for package in (aiida_deeph.calculations, aiida_deeph.data, aiida_deeph.parsers):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
importlib.import_module("aiida_deeph.cli.verdi_data")
print(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_nodes_jobs_and_parsers_load_no_torch():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "aiida_deeph" in loaded
    assert not loaded & set(HEAVY)
