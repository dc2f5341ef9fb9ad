"""`deeph-engine pyscf`: a Kohn-Sham calculation with PySCF."""

from __future__ import annotations

import os
from pathlib import Path

import click

from aiida_deeph.engine.config import load_config
from aiida_deeph.engine.dft.pyscf.config import PyscfConfig, check_names
from aiida_deeph.engine.errors import InputError


@click.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def command(config: Path) -> None:
    """Run PySCF as CONFIG (JSON or YAML) says; pyscf.h5 and results.json are written beside it.

    The exit status is 0 even if the density did not converge: `converged` in results.json tells.
    """
    settings = load_config(PyscfConfig, config)
    # Read by the linear algebra libraries when numpy is first imported, which happens below.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(settings.threads or 1)
    try:
        import pyscf  # noqa: F401
    except ImportError as error:
        raise InputError("PySCF is not installed", found=error, remedy="pip install 'aiida-deeph[pyscf]'") from None
    from aiida_deeph.engine.dft.pyscf.runner import run_pyscf

    check_names(settings.xc, settings.basis)
    run_pyscf(settings, config.parent, report=lambda line: click.echo(line))
