"""What a label of a structure would tell a model, in a few rows for each kind of edges."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.model import ModelDescription
from aiida_deeph.engine.nn.network import Network
from aiida_deeph.engine.prediction.chunked import EDGES_IN_CACHE, InParts
from aiida_deeph.engine.prediction.rules import Rows
from aiida_deeph.engine.prediction.trust import Trust
from aiida_deeph.engine.system_torch import TorchRanks

ROWS = 8
"""Rows that stand for all edges of one kind: most of their leverage, which decays fast, lies in them."""
TURNS = 3
"""Iterations of the search for them."""


def information(
    network: Network, structure: Structure, atom_pairs: NDArray[np.int64], description: ModelDescription
) -> tuple[Trust, Rows, Rows]:
    """What is expected of a prediction; what a label would tell; the same weighted with the errors, in eV.

    :param atom_pairs: rows (R1, R2, R3, i, j), shape (n_pairs, 5).
    :return: the last two by kind of edges, shape (ROWS, n_features).
    :raises InputError: the model has no posterior.
    """
    trust = Trust.empty(len(atom_pairs))
    order = np.argsort(atom_pairs[:, 3], kind="stable")
    like = next(network.buffers())
    told: dict[str, Tensor] = {}
    wanted: dict[str, Tensor] = {}
    with torch.inference_mode(), network.fixed_weights():
        sweep = InParts(
            structure,
            network.layout.basis.elements,
            atom_pairs[order],
            EDGES_IN_CACHE,
            like.dtype,
            like.device,
            TorchRanks(),
            Progress(disable=True),
        )
        for output in network.passes(sweep):
            if output.deviation is None or output.outside is None or output.information is None:
                raise no_posterior(description)
            for part in sweep.each("information"):
                places = order[part.rows]
                trust.expected_error[places] = output.deviation(part).cpu().numpy()
                trust.outside[places] = output.outside(part).cpu().numpy()
                for kind, rows, errors in output.information(part):
                    told[kind] = largest_rows(_below(told.get(kind), rows))
                    wanted[kind] = largest_rows(_below(wanted.get(kind), errors[:, None] * rows))
    return trust, *({kind: rows.double().cpu().numpy() for kind, rows in found.items()} for found in (told, wanted))


def no_posterior(description: ModelDescription) -> InputError:
    """Of a model that does not know what it does not know."""
    return InputError(
        "model without posterior",
        where="model, network",
        found=description.network,
        expected="closed-form, of few enough features for its posterior to be stored",
        remedy="train with network {name: closed-form}",
    )


def _below(known: Tensor | None, rows: Tensor) -> Tensor:
    return rows if known is None else torch.cat([known, rows])


def largest_rows(rows: Tensor) -> Tensor:
    """The few rows, shape (ROWS, n_features), whose products with each other are closest to those of all.

    Block power iteration (Halko, Martinsson, Tropp, SIAM Rev. 53, 217 (2011), algorithm 4.4).

    :param rows: shape (n, n_features).
    """
    n, n_features = rows.shape
    if n <= ROWS:
        return torch.nn.functional.pad(rows, (0, 0, 0, ROWS - n))
    generator = torch.Generator().manual_seed(0)
    space = torch.randn(n_features, min(ROWS, n_features), generator=generator, dtype=torch.float64).to(rows)
    for _ in range(TURNS):
        space = torch.linalg.qr(rows.T @ (rows @ space)).Q
    _, size, right = torch.linalg.svd(rows @ space, full_matrices=False)
    found = size[:, None] * (right @ space.T)
    return torch.nn.functional.pad(found, (0, 0, 0, ROWS - len(found)))
