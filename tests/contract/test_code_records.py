"""The record of a DFT code is complete, true, and the only place outside its folders where the code is known."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import aiida_deeph
from aiida_deeph.engine.cli.codes import command
from aiida_deeph.engine.dft.base import HamiltonianReader, get_reader, get_record, records
from aiida_deeph.engine.dft.record import BASIS_FILE, BASIS_LIBRARY, RESULT_UNITS
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.orbitals.formats import FORMATS
from tests.engine.dft.aims_files import known_hamiltonian

PACKAGE = Path(aiida_deeph.__file__).parent
CODES = sorted(records())
# A version as each code prints it, and the title of the releases to which it belongs.
VERSIONS = {
    "abacus": ("3.10.1", "3.x"),
    "aims": ("240507", "with `output_rs_matrices`"),
    "md17": ("any", "of SchNOrb"),
    "qh9": ("any", "QH9Stable, QH9Dynamic"),
    "cp2k": ("2023.1", "2023.1 or later"),
    "openmx": ("3.9.9", "3.9"),
    "pyscf": ("2.14.0", "2.14"),
    "qe": ("6.7MaX", "6.5 to 7.5"),
    "siesta": ("5.1.0", "5"),
}


@pytest.mark.parametrize("name", CODES)
def test_record_is_complete(name: str) -> None:
    record = get_record(name)
    assert record.name == name and (PACKAGE / "engine" / "dft" / name / "code.py").is_file()
    assert record.title and record.verified and record.not_supported and "doi:10." in record.citation
    assert record.spins[0] is SpinMode.NONE and (SpinMode.NONCOLLINEAR in record.spins) == record.spin_orbit
    # What labels is run by the engine or by programs that can be registered, and leaves files.
    assert bool(record.raw_files) == (record.plugin is not None) == bool(record.programs or record.command)
    assert all(program.option.startswith(f"--{program.name}-") for program in record.programs)
    assert record.basis in (None, BASIS_FILE, BASIS_LIBRARY, *FORMATS)
    assert record.basis is None or record.overlap != "no"
    if record.basis in ("pao", "ion"):
        assert FORMATS[record.basis].bohr == record.releases[0].bohr


@pytest.mark.parametrize("name", CODES)
def test_releases_are_told_apart_and_others_refused(name: str) -> None:
    version, title = VERSIONS[name]
    assert get_record(name).release(version, "here").title == title
    if name not in ("aims", "md17", "qh9"):  # what is read of them does not say a version
        with pytest.raises(InputError, match=r"version of .* is not known; in here; found 1\.0; expected"):
            get_record(name).release("1.0", "here")


@pytest.mark.parametrize("name", CODES)
def test_reader_belongs_to_the_record(name: str) -> None:
    reader = get_reader(name)
    assert isinstance(reader, HamiltonianReader) and reader.record is get_record(name)


@pytest.mark.parametrize("wrong", ["hamiltonian", "overlap", "fermi_energy", "n_electrons"])
def test_numbers_that_are_none_are_refused_by_every_reader(wrong: str) -> None:
    data = known_hamiltonian()
    if wrong in ("hamiltonian", "overlap"):
        matrix = getattr(data, wrong)
        matrix.entries[7] = np.nan
        data = replace(data, **{wrong: matrix})
    else:
        data = replace(data, **{wrong: float("inf")})

    class Toy(HamiltonianReader):
        """Gives what it is told to."""

        record = get_record(CODES[0])

        def _read(self, directory: Path) -> RealSpaceHamiltonian:
            return data

    with pytest.raises(DataError, match=r"numbers that are none; in somewhere"):
        Toy().read(Path("somewhere"))
    assert all("read" not in vars(type(get_reader(name))) for name in CODES)


def test_no_two_codes_share_a_kind_of_basis() -> None:
    kinds = [record.basis for record in records().values() if record.basis is not None]
    assert len(kinds) == len(set(kinds)) and set(FORMATS) <= set(kinds)


def test_one_name_of_the_fermi_level() -> None:
    assert RESULT_UNITS["fermi_energy"] == "eV" and "fermi_level" not in RESULT_UNITS


def test_unknown_code() -> None:
    with pytest.raises(InputError, match="no reader for this code; found vasp; expected one of abacus, aims"):
        get_record("vasp")


def test_records_need_no_heavy_library() -> None:
    heavy = ("aiida", "ase", "h5py", "pyscf", "scipy", "torch")
    code = (
        "import sys; from aiida_deeph.engine.dft.base import records; records();"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_table_of_the_readme_is_that_of_the_records() -> None:
    printed = CliRunner().invoke(command, catch_exceptions=False).output.splitlines()
    assert len(printed) == 2 + len(CODES)
    readme = PACKAGE.parent / "README.md"
    if not readme.is_file():
        pytest.skip("the package is installed without its repository")
    missing = set(printed) - set(readme.read_text(encoding="utf-8").splitlines()) - {printed[1]}
    assert not missing


# Where a code may be named: its two folders.
HOMES = {name: (f"engine/dft/{name}/", f"codes/{name}/") for name in CODES}
# Names of a code in text: its own, and those of its programs.
NAMES = {"qe": r"qe|espresso|hpro|pw2bgw", "aims": r"aims|fhi-aims"}
# The library that evaluates Gaussian integrals is one of the codes: to import it names no code.
LIBRARY = re.compile(r"^\s*(from pyscf[\w.]* import|import pyscf)")
# Data sets after which variants of a published network are called.
VARIANTS = {"md17", "qh9"}
# Public names that lead into a code's folder, and what another program calls a format of orbitals.
ALLOWED = {"__init__.py": {"pyscf"}, "engine/dft/qe/hpro_driver.py": {"siesta"}}


def named_codes(path: Path) -> set[str]:
    """Codes that a Python file names in code, strings or comments."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not LIBRARY.match(line)]
    text = re.sub(r"([a-z])([A-Z])", r"\1_\2", "\n".join(lines))
    return {
        name for name in CODES if re.search(rf"(?<![a-z0-9])({NAMES.get(name, name)})(?![a-z0-9])", text, re.IGNORECASE)
    }


def test_a_code_is_named_in_its_folders_alone() -> None:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        codes = {name for name in named_codes(path) if not place.startswith(HOMES[name])}
        codes -= ALLOWED.get(place, set())
        codes -= VARIANTS if place.startswith(("engine/nn/", "engine/cli/import_reference.py")) else set()
        if codes:
            found[place] = sorted(codes)
    assert not found
