"""`deeph-engine structure` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from aiida_deeph.engine.cli.main import engine
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.folders import read_structure


def run(*arguments: object) -> str:
    result = CliRunner().invoke(engine, ["structure", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_twist_by_names_then_by_file(tmp_path: Path) -> None:
    path = tmp_path / "small.xyz"
    assert "28 atoms, twist 21.7868 degrees" in run("twist", "graphene", "graphene", "-m", 1, "-o", path)
    assert len(read_structure(path)) == 28
    bilayer = tmp_path / "bilayer.xyz"
    output = run("twist", "graphene", "BN", "--angle", 0, "--max-strain", 0.02, "--distance", 3.3, "-o", bilayer)
    assert "strained by" in output
    again = tmp_path / "POSCAR"
    assert "atoms, twist 21.7868 degrees" in run("twist", bilayer, "-m", 1, "-o", again)
    assert len(read_structure(again)) == 7 * len(read_structure(bilayer))


def test_draw_records_what_it_did(tmp_path: Path) -> None:
    parent = tmp_path / "bilayer.xyz"
    run("twist", "graphene", "graphene", "--angle", 0, "-o", parent)
    (tmp_path / "design.yaml").write_text("- {kind: slide}\n- {kind: displace, amplitude: 0.08}\n")
    arguments = ("draw", parent, "-n", 3, "--seed", 5, "--supercell", 2, 2, 1, "--design", tmp_path / "design.yaml")
    for name in ("a", "b"):
        assert "3 cells around bilayer.xyz" in run(*arguments, "-o", tmp_path / name)
    cells = [read_structure(tmp_path / "a" / f"cell_000{n}.xyz") for n in range(3)]
    again = [read_structure(tmp_path / "b" / f"cell_000{n}.xyz") for n in range(3)]
    for one, two in zip(cells, again, strict=True):
        np.testing.assert_array_equal(one.positions, two.positions)
    record = json.loads((tmp_path / "a" / "design.json").read_text())
    assert (record["n"], record["seed"], record["supercell"], record["parent"]) == (3, 5, [2, 2, 1], "bilayer.xyz")
    assert [step["kind"] for step in record["design"]] == ["slide", "displace"]
    assert len(record["parent_structure"]["symbols"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("twist", "graphene", "graphene", "-o", "x.xyz"), "exactly one of m and angle"),
        (("twist", "graphene", "graphite", "-m", "1", "-o", "x.xyz"), "unknown layer"),
        (("twist", "nothing.xyz", "-m", "1", "-o", "x.xyz"), "structure cannot be read"),
    ],
)
def test_wrong_use_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)


def test_names_of_layers_complete() -> None:
    from click.shell_completion import ShellComplete

    complete = ShellComplete(engine, {}, "deeph-engine", "_DEEPH_ENGINE_COMPLETE")
    assert [item.value for item in complete.get_completions(["structure"], "")] == ["draw", "twist"]
    assert "graphene" in [item.value for item in complete.get_completions(["structure", "twist"], "gr")]
