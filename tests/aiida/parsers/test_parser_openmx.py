"""OpenMX runs that were recorded: what is read from them, and how each failure is told from the others."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from aiida import orm

from aiida_deeph.engine.dft.openmx.band_file import parse_bands
from aiida_deeph.engine.dft.openmx.code import OPENMX
from aiida_deeph.engine.errors import DataError

FIXTURES = Path(__file__).parents[2] / "fixtures" / "openmx"
HARTREE = OPENMX.hartree


@pytest.fixture(autouse=True)
def _profile(aiida_profile):
    """A profile for all tests."""


def texts(archive: str, run: str) -> dict[str, str]:
    """Text files of a recorded run by name; those that a job would bring back."""
    found = {}
    with tarfile.open(FIXTURES / f"{archive}.tar.xz") as file:
        for member in file.getmembers():
            path = Path(member.name)
            if path.parent.name == run and path.suffix in (".std", ".err", ".out", ".Band"):
                found[path.name] = file.extractfile(member).read().decode()
    return found


def run_of(name: str) -> dict[str, str]:
    return {**texts(name, name), **texts("stdout", name)}


def failure(name: str) -> dict[str, str]:
    return texts("failures", name)


def kpoints_of(text: str, rows: slice = slice(None)) -> orm.KpointsData:
    node = orm.KpointsData()
    node.set_kpoints(parse_bands(text).kpoints[rows])
    return node


def structure(*symbols: str) -> orm.StructureData:
    node = orm.StructureData(cell=np.diag([3.0, 3.0, 20.0]).tolist())
    for n, symbol in enumerate(symbols):
        node.append_atom(symbols=symbol, position=(0.0, 0.0, 2.0 * n))
    return node


def parse_run(parse, name: str, **changes):
    files = {**run_of(name), **changes}
    return parse("deeph.openmx", {key: text for key, text in files.items() if text is not None})


def test_graphene(parse):
    outputs, node = parse_run(parse, "graphene")
    assert node.exit_status in (0, None), node.exit_message
    values = outputs["output_parameters"].get_dict()
    assert values["version"] == "3.9" and values["converged"] is True and values["scf_cycles"] == 19
    assert values["energy"] == pytest.approx(-11.684061133459 * HARTREE) and values["energy_units"] == "eV"
    assert values["fermi_energy"] == pytest.approx(-0.140754001785 * HARTREE)
    assert values["electrons"] == pytest.approx([4.0, 4.0], abs=1e-7) and values["n_electrons"] == pytest.approx(8.0)
    history = values["scf_history"]
    assert len(history["band_energy"]) == len(history["residual"]) == 19
    assert history["band_energy"][-1] == pytest.approx(-3.830010628641 * HARTREE)
    assert history["residual"][-1] == pytest.approx(1.459e-8)
    assert values["energy_contributions"]["Ukin"] == pytest.approx(8.367457771022 * HARTREE)
    assert values["forces"][0][0] == pytest.approx(-0.000118610207 * HARTREE / 0.529177249)
    assert values["seconds"] == 12.661 and values["seconds_of_parts"]["diagonalization"] == 1.042
    assert values["grid_cutoffs"] == [197.2948, 197.2948, 195.0117] and values["scf_ended"] is True


def test_every_number_has_a_unit(parse):
    outputs, _ = parse_run(parse, "bi_soc")
    values = outputs["output_parameters"].get_dict()
    bare = {"version", "converged", "scf_cycles", "scf_history", "scf_ended"}
    missing = {key for key in values if not key.endswith("_units") and f"{key}_units" not in values} - bare
    assert not missing
    assert values["scf_history"]["units"] == {"band_energy": "eV", "residual": "1"}


def test_collinear_moments(parse):
    outputs, _ = parse_run(parse, "fe_collinear")
    values = outputs["output_parameters"].get_dict()
    assert values["total_spin_moment"] == pytest.approx(2.320723629)
    assert values["spin_moments"] == [pytest.approx(2.320723629)] and "spin_angles" not in values


def test_noncollinear_moments(parse):
    outputs, _ = parse_run(parse, "bi_soc")
    values = outputs["output_parameters"].get_dict()
    assert values["spin_angles"] == [[90.01119, 60.0724], [89.99154, 240.07393]]
    assert values["orbital_moments"] == [0.0, 0.0] and values["electrons"] == [15.0, 15.0]


@pytest.mark.parametrize(
    ("name", "symbols", "shape"),
    [("graphene", ["C", "C"], (15, 26)), ("fe_collinear", ["Fe"], (2, 5, 13)), ("bi_soc", ["Bi", "Bi"], (15, 52))],
)
def test_bands(parse, name, symbols, shape):
    files = run_of(name)
    known = parse_bands(files["openmx.Band"])
    kpoints = kpoints_of(files["openmx.Band"])
    kpoints.labels = [(0, "G"), (len(known.kpoints) - 1, "X")]
    outputs, node = parse("deeph.openmx", files, inputs={"bands_kpoints": kpoints, "structure": structure(*symbols)})
    assert node.exit_status in (0, None), node.exit_message
    bands = outputs["output_band"]
    assert bands.get_bands().shape == shape and bands.units == "eV"
    np.testing.assert_allclose(bands.get_bands(), np.squeeze(known.energies) * HARTREE)
    np.testing.assert_allclose(bands.get_kpoints(), known.kpoints)
    assert bands.labels[0] == (0, "G")
    assert bands.base.attributes.get("fermi_energy") == pytest.approx(known.fermi_energy * HARTREE)


def test_bands_at_other_points_are_refused(parse):
    files = run_of("graphene")
    inputs = {"bands_kpoints": kpoints_of(files["openmx.Band"], slice(1, None)), "structure": structure("C", "C")}
    _, node = parse("deeph.openmx", files, inputs=inputs)
    assert node.exit_status == 320 and "other k-points than those asked for" in node.exit_message


def test_bands_of_a_straight_part(parse):
    """The first piece of graphene's recorded path, as if nothing else had been asked for."""
    files = run_of("graphene")
    lines = files["openmx.Band"].splitlines()
    first = [*lines[:2], "1", lines[3], *lines[6:16]]
    files["openmx.Band"] = "\n".join(first) + "\n"
    kpoints = kpoints_of(files["openmx.Band"])
    outputs, node = parse("deeph.openmx", files, inputs={"bands_kpoints": kpoints, "structure": structure("C", "C")})
    assert node.exit_status in (0, None), node.exit_message
    bands = outputs["output_band"].get_bands()
    assert bands.shape == (5, 26)
    # Dirac point: bands 4 and 5 meet at the Fermi level.
    assert bands[-1, 3] == pytest.approx(bands[-1, 4], abs=1e-3)
    assert bands[-1, 3] == pytest.approx(-0.140754001785 * HARTREE, abs=0.05)


def test_bands_that_are_missing_or_damaged(parse):
    files = run_of("fe_collinear")
    kpoints, atom = kpoints_of(files["openmx.Band"]), structure("Fe")
    text = files.pop("openmx.Band")
    _, node = parse("deeph.openmx", files, inputs={"bands_kpoints": kpoints, "structure": atom})
    assert node.exit_status == 400 and "openmx.Band is missing" in node.exit_message
    files["openmx.Band"] = text[: len(text) // 2]
    with pytest.raises(DataError):
        parse_bands(files["openmx.Band"])
    inputs = {"bands_kpoints": kpoints.clone(), "structure": atom.clone()}
    outputs, node = parse("deeph.openmx", files, inputs=inputs)
    assert node.exit_status == 320 and "output_parameters" in outputs


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("wrong_orbitals", 220, r"Not enough data for PAO \(./DFT_DATA/PAO/C6.0.pao\)"),
        ("missing_file", 230, r"Could not find ./DFT_DATA/PAO/C6.5.pao"),
        ("refused", 210, r"ERROR key=scf.XcType"),
        ("unconverged", 410, r"9 cycles, last change .* Hartree, NormRD"),
        ("crashed", 310, r"Segmentation fault"),
        ("killed", 400, r"ended after 6 SCF cycles and stderr is silent"),
    ],
)
def test_failures(parse, name, status, message):
    _, node = parse("deeph.openmx", failure(name))
    assert node.exit_status == status
    assert re.search(message, node.exit_message), node.exit_message


def test_a_run_that_did_not_converge_says_how_far_it_came(parse):
    outputs, _ = parse("deeph.openmx", failure("unconverged"))
    values = outputs["output_parameters"].get_dict()
    assert values["converged"] is False and values["scf_ended"] is True and values["scf_cycles"] == 9
    assert values["energy"] < 0


def test_a_run_that_was_cut_off_says_how_far_it_came(parse):
    outputs, _ = parse("deeph.openmx", failure("killed"))
    values = outputs["output_parameters"].get_dict()
    assert values["converged"] is False and values["scf_ended"] is False and values["scf_cycles"] == 6


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***", 420),
        ("=>> PBS: job killed: walltime 3610 exceeded limit 3600", 420),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch", 430),
        ("cannot write openmx_rst: No space left on device", 440),
        ("openmx: error while loading shared libraries: libscalapack.so: cannot open shared object file", 310),
    ],
)
def test_what_the_system_says(parse, line, status):
    files = failure("killed")
    _, node = parse("deeph.openmx", {**files, "_scheduler-stderr.txt": f"{line}\n"})
    assert node.exit_status == status and line in node.exit_message


@pytest.mark.parametrize("status", [110, 120, 140])
def test_verdict_of_the_scheduler_comes_first(parse, status):
    outputs, node = parse("deeph.openmx", failure("killed"), scheduler_status=status)
    assert node.exit_status == status
    assert outputs["output_parameters"]["scf_cycles"] == 6


def test_nothing_came_back(parse):
    _, node = parse("deeph.openmx", {})
    assert node.exit_status == 400 and "openmx.std is missing" in node.exit_message


def test_finished_without_its_output(parse):
    _, node = parse_run(parse, "graphene", **{"openmx.out": None})
    assert node.exit_status == 400 and "openmx.out is missing" in node.exit_message


def test_output_that_is_cut_off(parse):
    text = run_of("graphene")["openmx.out"]
    _, node = parse_run(parse, "graphene", **{"openmx.out": text[: text.index("Total energy (Hartree)")]})
    assert node.exit_status == 320 and "OpenMX output is incomplete" in node.exit_message
    _, node = parse_run(parse, "graphene", **{"openmx.out": "something else\n"})
    assert node.exit_status == 320 and "not an OpenMX output" in node.exit_message
