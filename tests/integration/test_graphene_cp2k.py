"""The recipe `workflows/graphene_cp2k`, shrunk: real CP2K runs through aiida-cp2k, training, prediction, comparison."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

RECIPE = Path(__file__).parents[2] / "workflows" / "graphene_cp2k"
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


def test_recipe_is_valid() -> None:
    from aiida_deeph.cli.inputs import FullInputs
    from aiida_deeph.engine.config import load_config
    from aiida_deeph.engine.io.folders import read_structure

    inputs = load_config(FullInputs, RECIPE / "inputs.yaml")
    sources = {**inputs.structures, **inputs.targets, **inputs.validation}
    sizes = {name: len(read_structure(RECIPE / source.file)) for name, source in sources.items()}
    assert sizes == {"small": 2, "large": 2, "ripple": 288, "unseen_4x4": 32}
    assert (RECIPE / "README.md").is_file()


def shrunk(folder: Path) -> None:
    """A copy of the recipe with few and small cells and a coarse grid; still every step."""
    shutil.copytree(RECIPE, folder)
    values = yaml.safe_load((folder / "inputs.yaml").read_text())
    values["structures"] = {"small": {"file": "structures/graphene.xyz", "supercell": [2, 1, 1]}}
    values["targets"] = {"sheet": {"file": "structures/graphene.xyz", "supercell": [5, 5, 1]}}
    values["validation"] = {"cell": {"file": "structures/graphene.xyz"}}
    values["perturbation"]["n"] = 3
    label = values["overrides"]["dataset"]["label"]
    label["kpoints"] = [3, 3, 1]
    label["parameters"] = {"FORCE_EVAL": {"DFT": {"MGRID": {"CUTOFF": 100, "REL_CUTOFF": 30}}}}
    values["overrides"]["dataset"]["preprocess"]["parameters"]["cutoff"] = 3.0
    # The cutoff of this test drops more than the recipe's may.
    values["overrides"]["dataset"]["preprocess"]["parameters"] |= {"max_dropped": 10.0, "max_band_error": 100.0}
    network = {"name": "deephe3", "irreps_embed": "8x0e", "irreps_mid": "8x0e+4x1o", "lmax": 1, "n_blocks": 1}
    split = {"train": 0.34, "validation": 0.33, "test": 0.33}
    values["overrides"]["train"]["train"]["parameters"] |= {"epochs": 3, "network": network, "split": split}
    values["overrides"]["bands"] = {"points_per_segment": 2}
    (folder / "inputs.yaml").write_text(yaml.safe_dump(values))


CHECK = """
from aiida import orm
from aiida.plugins import WorkflowFactory
process = orm.QueryBuilder().append(WorkflowFactory("deeph.full"), filters={"label": "graphene"}).first(flat=True)
assert process.is_finished_ok, (process.exit_status, process.exit_message)
numbers = process.outputs.output_parameters.get_dict()
assert (numbers["n_labels"], numbers["n_failed"], numbers["n_members"]) == (3, 0, 3), numbers
assert numbers["test_mae_meV"] > 0 and numbers["band_mae_meV"] > 0
assert set(process.outputs.bands) == {"sheet", "cell"}
labels = [node for node in process.called_descendants if node.process_label == "Cp2kCalculation"]
assert len(labels) == 4 and all(node.is_finished_ok for node in labels)
"""

SETUP = """
import shutil
from pathlib import Path
from aiida_deeph.quickstart import profile
profile.code("deeph-engine", profile.program_beside_python("deeph-engine"), "deeph.train")
profile.code("cp2k", Path(shutil.which("cp2k")), "cp2k", "export OMP_NUM_THREADS=1")
"""


@pytest.mark.requires("cp2k")
def test_recipe_runs(quickstart, command, tmp_path: Path) -> None:
    shrunk(tmp_path / "recipe")
    (tmp_path / "setup.py").write_text(SETUP)
    command("verdi", "-p", quickstart.profile, "run", str(tmp_path / "setup.py"), cwd=tmp_path)
    launch = ("-p", quickstart.profile, "launch", "full", "-f", "recipe/inputs.yaml", "--run")
    command("aiida-deeph", *launch, cwd=tmp_path, timeout=800)
    (tmp_path / "check.py").write_text(CHECK)
    command("verdi", "-p", quickstart.profile, "run", str(tmp_path / "check.py"), cwd=tmp_path)
