"""Model folders from strangers: nothing in them is executed, and what is wrong with them is said in one line."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.io.model import DESCRIPTION_FILE, WEIGHTS_FILE
from aiida_deeph.engine.nn.deephe3.config import DeepHE3Config
from aiida_deeph.engine.nn.network import build_network, describe_network
from aiida_deeph.engine.nn.storage import load_model, save_model


class Payload:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model folder."""
    config = DeepHE3Config(irreps_embed="4x0e", irreps_mid="4x0e+2x1o", lmax=1, n_blocks=1, n_gaussians=8)
    description = describe_network(config, OrbitalBasis({"H": (0,)}), SpinMode.NONE, {"H-H": 4.0})
    save_model(tmp_path / "model", build_network(description), description)
    load_model(tmp_path / "model")
    return tmp_path / "model"


def test_pickle_instead_of_weights(model: Path, tmp_path: Path) -> None:
    marker = tmp_path / "code was run"
    weights = pickle.dumps(Payload(marker))
    (model / WEIGHTS_FILE).write_bytes(weights)
    values = json.loads((model / DESCRIPTION_FILE).read_text())
    values["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    (model / DESCRIPTION_FILE).write_text(json.dumps(values))
    with pytest.raises(DataError, match="weights do not fit the description") as caught:
        load_model(model)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_architecture_that_is_none(model: Path) -> None:
    values = json.loads((model / DESCRIPTION_FILE).read_text())
    values["architecture"]["__import__('os').system('true')"] = 1
    (model / DESCRIPTION_FILE).write_text(json.dumps(values))
    with pytest.raises(DataError, match="architecture does not fit the network") as caught:
        load_model(model)
    assert "\n" not in str(caught.value)
