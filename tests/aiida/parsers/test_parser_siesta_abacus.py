"""SIESTA and ABACUS runs that were recorded: what is read from them, and how each failure is told from the others."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType

from aiida_deeph.engine.dft.abacus.eigenvalues import parse_bands as abacus_bands
from aiida_deeph.engine.dft.siesta.energy_files import parse_bands as siesta_bands

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(autouse=True)
def _profile(aiida_profile):
    """A profile for all tests."""


def text_of(code: str, run: str, name: str) -> str:
    with tarfile.open(FIXTURES / code / f"{run}.tar.xz") as archive:
        return archive.extractfile(f"{run}/{name}").read().decode()


def siesta_files(run: str, label: str = "") -> dict[str, str]:
    """What a job brings back of a recorded run."""
    label = label or run
    found = {"siesta.out": text_of("siesta", run, f"{label}.out")}
    if run in ("fe", "fenc"):
        found["siesta.bands"] = text_of("siesta", run, f"{label}.bands")
    with tarfile.open(FIXTURES / "siesta" / f"{run}.tar.xz") as archive:
        names = [name for name in archive.getnames() if name.endswith(".ion.xml")]
    return found | {Path(name).name: text_of("siesta", run, Path(name).name) for name in names}


def abacus_files(run: str) -> dict[str, str]:
    return {"OUT.ABACUS/running_scf.log": text_of("abacus", run, "scf/running_scf.log")}


def structure(*symbols: str) -> orm.StructureData:
    node = orm.StructureData(cell=np.diag([3.0, 3.0, 20.0]).tolist())
    for n, symbol in enumerate(symbols):
        node.append_atom(symbols=symbol, position=(0.0, 0.0, 2.0 * n))
    return node


def points(count: int) -> orm.KpointsData:
    node = orm.KpointsData()
    node.set_kpoints([[0.01 * n, 0.02 * n, 0.0] for n in range(count)])
    return node


def ended_well(node: orm.ProcessNode) -> bool:
    return node.exit_status in (0, None)


def units_are_there(values: dict) -> bool:
    bare = {"version", "converged", "scf_cycles", "scf_history", "scf_ended", "n_bands"}
    return not {key for key in values if not key.endswith("_units") and f"{key}_units" not in values} - bare


# SIESTA


def test_siesta_numbers_and_orbitals(parse):
    outputs, node = parse("deeph.siesta", siesta_files("graphene"), inputs={"structure": structure("C", "C")})
    assert ended_well(node), node.exit_message
    values = outputs["output_parameters"].get_dict()
    assert values["version"] == "master-post-4.1-268" and values["converged"] is True and values["scf_cycles"] == 16
    assert values["energy"] == -314.956129 and values["fermi_energy"] == -4.21084
    assert values["forces"] == [[-0.000131, 0.000075, 0.0], [0.000126, -0.000073, 0.0]]
    assert values["energy_contributions"]["hartree"] == 824.198762 and values["seconds"] == 7.714
    assert len(values["scf_history"]["energy"]) == 16 and "total_spin_moment" not in values
    assert units_are_there(values)
    carbon = outputs["orbitals"]["C"] if "orbitals" in outputs else outputs["orbitals__C"]
    assert (carbon.code, carbon.filename, carbon.n_orbitals) == ("siesta", "C.ion.xml", 13)


@pytest.mark.parametrize(
    ("run", "moment", "shape"), [("fe", [0, 0, 2.28655], (2, 4, 15)), ("fenc", [1.34431, 0.9413, 1.37705], (4, 18))]
)
def test_siesta_moments_and_bands(parse, run, moment, shape):
    files = siesta_files(run)
    inputs = {"structure": structure("Fe"), "bands_kpoints": points(4)}
    outputs, node = parse("deeph.siesta", files, inputs=inputs)
    assert ended_well(node), node.exit_message
    assert outputs["output_parameters"]["total_spin_moment"] == moment
    bands = outputs["output_band"]
    assert bands.get_bands().shape == shape and bands.units == "eV"
    np.testing.assert_allclose(bands.get_bands(), np.squeeze(siesta_bands(files["siesta.bands"]).energies))
    assert bands.base.attributes.get("fermi_energy") == siesta_bands(files["siesta.bands"]).fermi_energy


def cut_off(text: str, mark: str) -> str:
    return text[: text.index(mark)]


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        (lambda f: {"siesta.out": cut_off(f["siesta.out"], "SCF cycle converged")}, 400, "after 16 SCF cycles"),
        (
            lambda f: {
                "siesta.out": cut_off(f["siesta.out"], "SCF cycle converged")
                + "SCF_NOT_CONV: SCF did not converge in maximum number of steps (required).\n",
                "siesta.err": "Stopping Program from Node:    0\n",
            },
            410,
            "16 cycles, last change of the density matrix 0.0e",
        ),
        (lambda f: {"siesta.out": cut_off(f["siesta.out"], "   scf:    1")}, 400, "before the SCF"),
        (lambda f: {"siesta.out": None}, 400, "siesta.out is missing"),
        (lambda f: {"C.ion.xml": None}, 400, "C.ion.xml is missing"),
        (lambda f: {"C.ion.xml": f["C.ion.xml"][:3000]}, 320, "file of orbitals is damaged"),
        (
            lambda f: {
                "siesta.out": cut_off(f["siesta.out"], "   scf:    1"),
                "siesta.err": "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026 DUE TO TIME LIMIT ***\n",
            },
            420,
            "TIME LIMIT",
        ),
        (
            lambda f: {
                "siesta.out": cut_off(f["siesta.out"], "   scf:    1"),
                "siesta.err": "Pseudopotential file C.psf not found\nStopping Program from Node:    0\n",
            },
            230,
            "C.psf not found",
        ),
        (
            lambda f: {
                "siesta.out": cut_off(f["siesta.out"], "   scf:    1"),
                "siesta.err": "Program received signal SIGSEGV: Segmentation fault\n",
            },
            310,
            "SIGSEGV",
        ),
    ],
)
def test_siesta_failures(parse, change, status, message):
    files = siesta_files("graphene")
    files |= change(files)
    kept = {name: text for name, text in files.items() if text is not None}
    outputs, node = parse("deeph.siesta", kept, inputs={"structure": structure("C", "C")})
    assert node.exit_status == status and message in node.exit_message
    if "SCF cycles" in message or status == 410:
        assert outputs["output_parameters"]["converged"] is False
        assert outputs["output_parameters"]["scf_ended"] is True


def test_siesta_scheduler_comes_first(parse):
    files = siesta_files("graphene") | {"siesta.out": "Siesta Version  : 4.1\n"}
    _, node = parse("deeph.siesta", files, inputs={"structure": structure("C")}, scheduler_status=120)
    assert node.exit_status == 120


def test_siesta_bands_of_other_points(parse):
    inputs = {"structure": structure("Fe"), "bands_kpoints": points(5)}
    _, node = parse("deeph.siesta", siesta_files("fe"), inputs=inputs)
    assert node.exit_status == 320 and "found 4 k-points, expected 5" in node.exit_message


# ABACUS


@pytest.mark.parametrize(
    ("run", "symbols", "energy", "cycles", "electrons", "moment"),
    [
        ("graphene", "CC", -309.9923079550951, 21, 8.0, None),
        ("fe_nspin2", ["Fe"], -3135.149469718931, 17, 16.0, [1.71586]),
        ("gaas_soc_mag", ["Ga", "As"], -4943.613109242199, 27, 28.0, [5.58164e-05, 6.3771e-05, 0.0953688]),
    ],
)
def test_abacus_numbers(parse, run, symbols, energy, cycles, electrons, moment):
    outputs, node = parse("deeph.abacus", abacus_files(run), inputs={"structure": structure(*symbols)})
    assert ended_well(node), node.exit_message
    values = outputs["output_parameters"].get_dict()
    assert values["version"] == "3.8.1" and values["converged"] is True and values["scf_cycles"] == cycles
    assert values["energy"] == energy and values["n_electrons"] == electrons
    assert values.get("total_spin_moment") == moment and units_are_there(values)
    assert len(values["scf_history"]["residual"]) == cycles


def test_abacus_that_did_not_converge(parse):
    """Its exit status says nothing, and it leaves matrices all the same."""
    outputs, node = parse("deeph.abacus", abacus_files("gaas_soc_trs"), inputs={"structure": structure("Ga", "As")})
    assert node.exit_status == 410 and "100 cycles, last error of the density 8.3e-08" in node.exit_message
    values = outputs["output_parameters"].get_dict()
    assert values["converged"] is False and values["scf_ended"] is True


def test_abacus_forces_in_the_order_of_the_structure(parse):
    log = abacus_files("graphene")["OUT.ABACUS/running_scf.log"]
    table = (
        " ------\n TOTAL-FORCE (eV/Angstrom)\n ------\n H1 0.1 0.0 0.0\n H2 0.3 0.0 0.0\n C1 -0.4 0.0 0.0\n ------\n"
    )
    files = {"OUT.ABACUS/running_scf.log": log.replace(" Start  Time", table + " Start  Time")}
    outputs, _ = parse("deeph.abacus", files, inputs={"structure": structure("H", "C", "H")})
    assert [row[0] for row in outputs["output_parameters"]["forces"]] == [0.1, -0.4, 0.3]


@pytest.mark.parametrize(
    ("files", "status", "message"),
    [
        ({}, 400, "is missing and stderr is silent"),
        ({"abacus.err": "slurmstepd: error: JOB 7 CANCELLED DUE TO TIME LIMIT"}, 420, "TIME LIMIT"),
        ({"abacus.err": "abacus: error while loading shared libraries: x"}, 310, "shared libraries"),
        (
            {"abacus.out": "!!!!\n NOTICE\n", "OUT.ABACUS/warning.log": " Couldn't find the pseudo file C.upf"},
            230,
            "C.upf",
        ),
        ({"abacus.out": " THE PARAMETER NAME 'ecutwf' IS NOT USED!\n"}, 210, "ecutwf"),
        ({"abacus.out": " CHECK IN FILE : OUT.ABACUS/warning.log\n"}, 210, "CHECK IN FILE"),
    ],
)
def test_abacus_failures(parse, files, status, message):
    _, node = parse("deeph.abacus", files, inputs={"structure": structure("C")})
    assert node.exit_status == status and message in node.exit_message


def test_abacus_that_was_cut_off(parse):
    log = cut_off(abacus_files("graphene")["OUT.ABACUS/running_scf.log"], "charge density convergence")
    files = {"OUT.ABACUS/running_scf.log": log}
    outputs, node = parse("deeph.abacus", files, inputs={"structure": structure("C", "C")})
    assert node.exit_status == 400 and "after 21 SCF cycles" in node.exit_message
    assert outputs["output_parameters"]["scf_ended"] is False
    _, node = parse("deeph.abacus", files, inputs={"structure": structure("C", "C")}, scheduler_status=120)
    assert node.exit_status == 120


@pytest.mark.parametrize(
    ("run", "count", "spin", "names"),
    [("graphene", 6, "none", ("BANDS_1.dat",)), ("fe_nspin2", 6, "collinear", ("BANDS_1.dat", "BANDS_2.dat"))],
)
@pytest.mark.parametrize("later", [False, True])
def test_abacus_bands(parse, make_remote, run, count, spin, names, later):
    tables = [text_of("abacus", run, f"nscf/{name}") for name in names]
    called = ("eigs1.txt", "eigs2.txt") if later else ("BANDS_1.dat", "BANDS_2.dat")
    files = {f"OUT.ABACUS/{name}": text for name, text in zip(called, tables, strict=False)}
    files["OUT.ABACUS/running_nscf.log"] = text_of("abacus", run, "nscf/running_nscf.log")
    scf = make_remote(creator="deeph.abacus")
    results = orm.Dict({"fermi_energy": -1.5})
    results.base.links.add_incoming(scf.creator, LinkType.CREATE, "output_parameters")
    results.store()
    inputs = {
        "structure": structure("C", "C") if run == "graphene" else structure("Fe"),
        "bands_kpoints": points(count),
        "spin": orm.Str(spin),
        "restart_folder": scf,
    }
    outputs, node = parse("deeph.abacus", files, inputs=inputs)
    assert ended_well(node), node.exit_message
    known = np.squeeze(np.array([abacus_bands(text) for text in tables]))
    np.testing.assert_allclose(outputs["output_band"].get_bands(), known)
    # That of the SCF.
    assert outputs["output_band"].base.attributes.get("fermi_energy") == -1.5
    if spin == "collinear":
        del files[f"OUT.ABACUS/{called[1]}"]
        _, node = parse("deeph.abacus", files, inputs=inputs)
        assert node.exit_status == 400 and "eigs2.txt is missing" in node.exit_message
