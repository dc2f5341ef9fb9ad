"""Runs of pw.x, pw2bgw.x and HPRO that were recorded: what is read from them, and how each failure is told."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from aiida import orm

from aiida_deeph.engine.dft.qe.xml_output import parse_pw_xml
from tests.aiida.qe_files import other_codes

ARCHIVE = Path(__file__).parents[2] / "fixtures" / "qe" / "polyacetylene.tar.xz"


@pytest.fixture(autouse=True)
def _profile(aiida_profile):
    """A profile for all tests."""


def texts(folder: str = ".") -> dict[str, str]:
    """Text files of a folder of the archive by name."""
    found = {}
    with tarfile.open(ARCHIVE) as file:
        for member in file.getmembers():
            path = Path(member.name).relative_to("polyacetylene")
            if member.isfile() and path.parent == Path(folder) and path.suffix != ".h5":
                found[path.name] = file.extractfile(member).read().decode()
    return found


def kpoints(points: object = None) -> orm.KpointsData:
    node = orm.KpointsData()
    if points is None:
        node.set_kpoints_mesh([5, 1, 1])
    else:
        node.set_kpoints(points)
    return node


def structure() -> orm.StructureData:
    node = orm.StructureData(cell=[[2.46, 0, 0], [0.1, 5.0, 0], [0, 0.15, 4.6]])
    for symbol in "CCHH":
        node.append_atom(symbols=symbol, position=(0.0, 0.0, 0.0))
    return node


def parse_pw(parse, files, *, points=None, **inputs):
    values = {"kpoints": kpoints(points), "structure": structure(), **inputs}
    return parse("deeph.pw", {name: text for name, text in files.items() if text is not None}, inputs=values)


@pytest.fixture
def pw2bgw(aiida_code_installed):
    return other_codes(aiida_code_installed)["pw2bgw"]


def test_scf(parse, pw2bgw):
    outputs, node = parse_pw(parse, texts(), pw2bgw=pw2bgw)
    assert node.exit_status in (0, None), node.exit_message
    values = outputs["output_parameters"].get_dict()
    assert values["version"] == "6.7MaX" and values["converged"] is True and values["scf_cycles"] == 12
    assert values["energy"] == pytest.approx(-340.829510, abs=1e-5) and values["energy_units"] == "eV"
    assert values["fermi_energy"] == pytest.approx(0.382095, abs=1e-5)
    assert values["n_electrons"] == 10 and values["n_kpoints"] == 3 and values["cutoffs"] == [60, 240]
    assert values["pseudopotentials"] == {"C": "C.upf", "H": "H.upf"}


def test_bands(parse):
    files = texts()
    files |= {"pw.out": files["bands.out"], "data-file-schema.xml": files["bands.xml"]}
    expected = parse_pw_xml(files["bands.xml"], "bands.xml")
    outputs, node = parse_pw(parse, files, points=expected.kpoints)
    assert node.exit_status in (0, None), node.exit_message
    bands = outputs["output_band"]
    assert np.array_equal(bands.get_bands(), expected.energies[0]) and bands.units == "eV"
    _, node = parse_pw(parse, files, points=expected.kpoints[::-1])
    assert node.exit_status == 320 and "other k-points" in node.exit_message


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("namelist", 210, r"bad line in namelist &system: \" electron_x = 3\""),
        ("pseudo", 210, r"readpp .*D.upf not found"),
        ("unconverged", 410, r"2 cycles, accuracy \S+ Ry"),
        ("pw2bgw", 310, r"read_xml_file .*fatal error reading xml file"),
    ],
)
def test_failures(parse, pw2bgw, name, status, message):
    outputs, node = parse_pw(parse, texts(f"failures/{name}"), pw2bgw=pw2bgw)
    assert node.exit_status == status
    assert re.search(message, node.exit_message)
    assert ("output_parameters" in outputs) == (name in ("unconverged", "pw2bgw"))


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"pw.out": None}, 400),
        ({"data-file-schema.xml": None}, 400),
        ({"data-file-schema.xml": "<a>"}, 320),
        ({"pw2bgw.out": None}, 400),
        ({"pw2bgw.out": "", "pw2bgw.err": "slurmstepd: error: Detected 1 oom-kill event"}, 430),
        ({"data-file-schema.xml": None, "pw.out": "", "pw.err": "No space left on device"}, 440),
        ({"pw.out": "Maximum CPU time exceeded"}, 420),
        ({"pw2bgw.out": " Error in routine pw2bgw (6):\n  BGW cannot use spinors.\n"}, 210),
        ({"data-file-schema.xml": None, "pw.out": "", "pw.err": "bash: pw.x: command not found"}, 310),
    ],
)
def test_damaged_runs(parse, pw2bgw, change, status):
    _, node = parse_pw(parse, {**texts(), **change}, pw2bgw=pw2bgw)
    assert node.exit_status == status, node.exit_message


def parse_hpro(parse, files, **parameters):
    inputs = {"parameters": orm.Dict({"cutoff": 60.0, **parameters})}
    return parse("deeph.hpro", {name: text for name, text in files.items() if text is not None}, inputs=inputs)


def test_projection(parse):
    outputs, node = parse_hpro(parse, texts())
    assert node.exit_status in (0, None), node.exit_message
    values = outputs["output_parameters"].get_dict()
    assert values["mean_error"] == pytest.approx(0.0755, abs=1e-4) and values["mean_error_units"] == "eV"
    assert values["n_occupied"] == 5 and values["hpro_version"] == "0.3.1.post1"
    assert "mean error of the occupied bands 76 meV" in values["warnings"][0]
    outputs, node = parse_hpro(parse, texts(), warn_error=0.08)
    assert node.exit_status in (0, None) and outputs["output_parameters"]["warnings"] == []


def test_orbitals_that_do_not_belong_to_the_pseudopotential(parse):
    outputs, node = parse_hpro(parse, texts(), max_error=0.07)
    assert node.exit_status == 330 and "76 meV, largest 198 meV, allowed 70 meV" in node.exit_message
    assert outputs["output_parameters"]["mean_error"] > 0.07
    result = json.loads(texts()["hpro_result.json"])
    result["projection"]["mean_error_eV"] = float("nan")
    _, node = parse_hpro(parse, {"hpro_result.json": json.dumps(result)})
    assert node.exit_status == 330


@pytest.mark.parametrize(
    ("files", "status", "message"),
    [
        (texts("failures/hpro_crash"), 310, "UnboundLocalError: cannot access local variable"),
        ({"hpro.err": "hpro-driver: missing: VSC"}, 230, "VSC"),
        ({"hpro.err": "hpro-driver: environment: No module named 'HPRO': pip install HPRO mpi4py"}, 240, "pip install"),
        ({"hpro.err": "hpro-driver: potential: VSC begins with b'RHO-'"}, 210, "begins with"),
        ({"hpro.err": "Traceback\nMemoryError"}, 430, "MemoryError"),
        ({"hpro.err": ""}, 400, "is missing and stderr is silent"),
        ({"hpro_result.json": "{}"}, 320, "no projection"),
    ],
)
def test_failed_projections(parse, files, status, message):
    _, node = parse_hpro(parse, files)
    assert node.exit_status == status and message in node.exit_message
