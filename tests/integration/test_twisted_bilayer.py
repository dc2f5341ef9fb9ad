"""The recipe `workflows/twisted_bilayer`, shrunk: from labels to bands against DFT, as a user runs it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

RECIPE = Path(__file__).parents[2] / "workflows" / "twisted_bilayer"
PROFILE = "recipe-twisted-bilayer"
pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

SETUP = f"""
from aiida_deeph.quickstart import profile
profile.load_or_create("{PROFILE}")
profile.code("deeph-engine", profile.program_beside_python("deeph-engine"), "deeph.train")
"""

# The script as it stands, but here and now instead of by a daemon.
DRIVE = """
import runpy
from aiida import engine
engine.submit = lambda builder: engine.run_get_node(builder).node
runpy.run_path("recipe/run.py", run_name="__main__")
"""

CHECK = """
import numpy as np
from aiida import orm
from aiida.plugins import WorkflowFactory
process = orm.QueryBuilder().append(WorkflowFactory("deeph.full")).one()[0]
assert process.is_finished_ok, (process.exit_status, process.exit_message)
labels = process.inputs.dataset.labels
assert sorted(labels) == [f"cell_010{n}" for n in range(8)]
assert labels.cell_0102.base.extras.get("origin") == "bilayer-graphene/0102"
# No path of a host stands in the inputs of any job.
for job in process.called_descendants:
    if isinstance(job, orm.CalcJobNode) and "parameters" in job.inputs:
        assert "/" not in str(job.inputs.parameters.get_dict()), job.inputs.parameters.get_dict()
reference = process.outputs.dft_bands.twisted_28
assert reference.get_bands().shape[-1] == 364 and abs(reference.get_bands().min() + 23.381) < 0.01
assert len(process.outputs.bands.twisted_28.get_kpoints()) == len(reference.get_kpoints()) == 12
compared = process.outputs.comparison.twisted_28.get_dict()
assert compared["n_occupied"] == [56], compared
assert np.isfinite(compared["band_mae_meV"]) and compared["n_kpoints"] == 12, compared
# With the fit of the two-centre part alone H is this good; bands need more, since S is nearly singular.
assert 0 < process.outputs.output_parameters["test_mae_meV"] < 100, process.outputs.output_parameters.get_dict()
assert "bands" not in process.outputs or set(process.outputs.bands) == {"twisted_28"}
target = next(node for node in process.called if node.label == "3 target turned")
assert target.inputs.structure.creator.process_label == "twist_bilayer"
assert len(target.inputs.structure.sites) == 28
assert "hamiltonian" not in target.outputs and "remote_folder" in target.outputs
"""


@pytest.mark.parametrize("name", ["inputs.yaml", "from_labels.yaml"])
def test_recipe_is_valid(name: str) -> None:
    from aiida_deeph.cli.inputs import FullInputs
    from aiida_deeph.engine.config import load_config, parse_config
    from aiida_deeph.engine.io.folders import read_structure
    from aiida_deeph.engine.structures.design import DesignConfig, draw
    from aiida_deeph.engine.structures.twist import twisted
    from aiida_deeph.workflows.target import TargetSettings

    inputs = load_config(FullInputs, RECIPE / name)
    sizes = {}
    for key, source in inputs.targets.items():
        assert source.twist is not None
        sizes[key] = len(twisted(read_structure(RECIPE / source.file), source.twist)[0])
        parse_config(TargetSettings, source.settings, key)
    assert sizes == {"twist_6": 364, "twist_1_08": 11164}
    if inputs.perturbation is not None:
        parent = read_structure(RECIPE / inputs.structures["bilayer"].file)
        assert len(draw(parent, parse_config(DesignConfig, inputs.perturbation), 0)) == 16
    assert (RECIPE / "README.md").is_file()


def shrunk(folder: Path, labels: Path) -> None:
    """A copy of the recipe with eight labels, a tiny network and the smallest twist; still every step."""
    shutil.copytree(RECIPE, folder, ignore=shutil.ignore_patterns("bilayer-graphene"))
    (folder / "bilayer-graphene").symlink_to(labels)
    values = yaml.safe_load((folder / "from_labels.yaml").read_text())
    values["labels"]["members"] = "010[0-7]"
    target = {**values["targets"]["twist_1_08"], "twist": {"m": 1}}
    values["targets"] = {"turned": target}
    network = {"name": "deephe3-residual", "irreps_embed": "8x0e", "irreps_mid": "8x0e+4x1o", "lmax": 1, "n_blocks": 1}
    split = {"train": 0.75, "validation": 0.125, "test": 0.125}
    values["overrides"]["train"]["train"]["parameters"] |= {
        "epochs": 1,
        "learning_rate": 1.0e-4,
        "network": network,
        "split": split,
    }
    (folder / "from_labels.yaml").write_text(yaml.safe_dump(values))


def test_recipe_runs_from_labels(command, shared: Path, tmp_path: Path) -> None:
    shrunk(tmp_path / "recipe", shared / "fixtures" / "bilayer-graphene")
    (tmp_path / "setup.py").write_text(SETUP)
    command("python", str(tmp_path / "setup.py"), cwd=tmp_path)
    orbitals = str(shared / "reference" / "openmx-data")
    command("aiida-deeph", "-p", PROFILE, "data", "pao", "install", orbitals, "--label", "openmx-2019", cwd=tmp_path)
    (tmp_path / "drive.py").write_text(DRIVE)
    command("verdi", "-p", PROFILE, "run", "drive.py", "from_labels.yaml", cwd=tmp_path, timeout=500)
    (tmp_path / "check.py").write_text(CHECK)
    command("verdi", "-p", PROFILE, "run", str(tmp_path / "check.py"), cwd=tmp_path)
