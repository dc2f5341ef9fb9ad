"""Every entry point loads, says what it does, and ends with exit codes that mean the same everywhere."""

from __future__ import annotations

import subprocess
import sys

import pytest
from aiida.engine import CalcJob, Process, WorkChain
from aiida.parsers import Parser
from aiida.plugins import CalculationFactory, DataFactory, ParserFactory, WorkflowFactory
from aiida.plugins.entry_point import get_entry_point_names, load_entry_point

# Codes below are AiiDA's own; so are these of BaseRestartWorkChain.
FIRST_OWN = 200
RESTART_CODES = {301, 302, 401, 402}
RANGES = {2: "ERROR_", 3: "ERROR_", 4: "ERROR_", 7: "WARNING_"}


def names(group: str) -> list[str]:
    return sorted(name for name in get_entry_point_names(group) if name.startswith("deeph."))


PROCESSES = [("aiida.calculations", name) for name in names("aiida.calculations")] + [
    ("aiida.workflows", name) for name in names("aiida.workflows")
]


@pytest.fixture(autouse=True)
def _profile(aiida_profile):
    """A profile for all tests."""


@pytest.mark.parametrize(("group", "name"), PROCESSES)
def test_process_says_what_it_does(group, name):
    process = load_entry_point(group, name)
    assert issubclass(process, CalcJob if group == "aiida.calculations" else WorkChain)
    assert process.__doc__ and process.__module__.startswith("aiida_deeph.")
    spec = process.spec()
    assert spec.default_output_node == "output_parameters"
    assert "output_parameters" in spec.outputs
    ports = [port for key, port in spec.inputs.items() if key != "metadata"]
    assert all(port.help or hasattr(port, "ports") for port in ports), "an input without help"


@pytest.mark.parametrize(("group", "name"), PROCESSES)
def test_exit_codes_are_unique_and_mean_what_their_range_says(group, name):
    process: type[Process] = load_entry_point(group, name)
    own = {label: code for label, code in process.spec().exit_codes.items() if code.status >= FIRST_OWN}
    assert len({code.status for code in own.values()}) == len(own)
    own = {label: code for label, code in own.items() if code.status not in RESTART_CODES}
    for label, code in own.items():
        assert label.startswith(RANGES[code.status // 100]), label
        assert code.message and (code.message[0].isupper() or code.message[0] in "`{"), label


@pytest.mark.parametrize("name", names("aiida.calculations"))
def test_calculation_has_a_parser_of_its_name(name):
    calculation = CalculationFactory(name)
    assert calculation.spec().inputs["metadata"]["options"]["parser_name"].default == name
    assert issubclass(ParserFactory(name), Parser)
    expected = calculation.__module__.replace("calculations", "parsers").replace(".calculation", ".parser")
    assert ParserFactory(name).__module__ in (expected, f"{expected}_parser")


@pytest.mark.parametrize("name", names("aiida.data"))
def test_data_loads(name):
    assert DataFactory(name).__doc__


@pytest.mark.parametrize("name", names("aiida.workflows"))
def test_workflow_has_protocols_and_a_builder(name):
    workflow = WorkflowFactory(name)
    assert set(workflow.get_available_protocols()) == {"fast", "balanced", "stringent"}
    assert "protocol" in workflow.get_builder_from_protocol.__doc__


def test_nothing_of_the_aiida_wing_imports_torch():
    groups = ("aiida.calculations", "aiida.parsers", "aiida.data", "aiida.workflows", "aiida.cmdline.data")
    entries = [(group, name) for group in groups for name in get_entry_point_names(group) if name.startswith("deeph")]
    assert len(entries) > 20
    code = (
        "import sys\n"
        "from aiida.plugins.entry_point import load_entry_point\n"
        f"for group, name in {entries!r}:\n"
        "    load_entry_point(group, name)\n"
        "import aiida_deeph.cli.launch, aiida_deeph.cli.proofs, aiida_deeph.cli.main\n"
        "print(sorted({'torch', 'e3nn', 'torch_geometric', 'lightning_fabric', 'pyscf'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
