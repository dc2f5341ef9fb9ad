"""`deeph-engine plot`: figures of results, and what is no result."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from aiida_deeph.engine.cli.plot import command
from aiida_deeph.engine.errors import InputError

BANDS = {
    "kpoints": [[0.0, 0, 0], [0.25, 0, 0], [0.5, 0, 0]],
    "distances": [0.0, 0.5, 1.0],
    "labels": [[0, "G"], [2, "X"]],
    "energies": [[[-1.0, 1.0], [-0.5, 1.5], [-0.2, 2.0]]],
    "fermi_level": 0.1,
}
CURVE = {"energies": [-1.0, 0.0, 1.0], "dos": [0.0, 2.0, 1.0], "dos_by_element": {"H": [0.0, 2.0, 1.0]}}


def run(*arguments):
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if isinstance(result.exception, InputError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def written(folder, name, values):
    path = folder / name
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_bands_and_curves_in_every_format(tmp_path, suffix, magic):
    for name, values in (("bands", BANDS), ("curve", CURVE)):
        path = written(tmp_path, f"{name}.json", values)
        run(path, "--output", tmp_path / f"{name}.{suffix}")
        assert (tmp_path / f"{name}.{suffix}").read_bytes().startswith(magic)


def test_bands_beside_others(tmp_path):
    path, other = written(tmp_path, "a.json", BANDS), written(tmp_path, "b.json", {**BANDS, "fermi_level": None})
    assert "a.png" in run(path, "--against", other, "--window", "-2", "2")
    shifted = written(tmp_path, "c.json", {**BANDS, "kpoints": [[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0]]})
    with pytest.raises(InputError, match=r"bands on other k-points; in .*c\.json"):
        run(path, "--against", shifted)


def test_what_is_no_result(tmp_path):
    with pytest.raises(InputError, match="nothing to draw"):
        run(written(tmp_path, "x.json", {"energies": [1.0]}))
    with pytest.raises(InputError, match="result cannot be read"):
        run(written(tmp_path, "y.json", [1, 2]))
    with pytest.raises(InputError, match="unknown format of figures"):
        run(written(tmp_path, "z.json", BANDS), "--output", tmp_path / "z.docx")
