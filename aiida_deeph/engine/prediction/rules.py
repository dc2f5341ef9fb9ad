"""Selection rules of active learning: which structures to label next. Numbers in, places out; no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = dict[str, Floats]


@dataclass(frozen=True)
class Pool:
    """What a model knows of the structures that may be labelled, and of those that matter.

    :param expected_error: of each candidate, shape (n,), eV.
    :param free: whether it may be chosen, shape (n,).
    :param candidates: by kind of edges what a label would tell, shape (n, n_rows, n_features): products of rows are
        covariances of predictions in units of the noise.
    :param targets: the same of the targets, shape (n_targets, n_rows, n_features), rows in eV.
    """

    expected_error: Floats
    free: NDArray[np.bool_]
    candidates: Rows
    targets: Rows


Rule = Callable[[Pool, int, np.random.Generator], list[int]]
"""Pool, how many, source of chance -> places of the chosen candidates, the most wanted first."""


def random(pool: Pool, count: int, rng: np.random.Generator) -> list[int]:
    """Any."""
    return [int(n) for n in rng.permutation(np.flatnonzero(pool.free))[:count]]


def variance(pool: Pool, count: int, rng: np.random.Generator) -> list[int]:
    """Those of the largest expected error, alike or not."""
    order = np.argsort(-np.where(pool.free, pool.expected_error, -np.inf), kind="stable")
    return [int(n) for n in order[: min(count, int(pool.free.sum()))]]


def leverage(pool: Pool, count: int, rng: np.random.Generator) -> list[int]:
    """Those that are least determined, each counted after the ones before it: greedy D-optimal design."""
    return _greedy(pool, count, lambda own, _: np.linalg.slogdet(own)[1])


def coverage(pool: Pool, count: int, rng: np.random.Generator) -> list[int]:
    """Those after which the errors of the targets are expected smallest, each counted after the ones before it.

    Greedy A-optimal design, Cohn's integrated variance reduction (Neural Networks 9, 1071 (1996), section 3).
    """

    def gain(own: Floats, across: Floats) -> Floats:
        return np.einsum("nij,tni,tnj->n", np.linalg.inv(own), across, across, optimize=True)

    return _greedy(pool, count, gain)


RULES: dict[str, Rule] = {"coverage": coverage, "leverage": leverage, "variance": variance, "random": random}


def _greedy(pool: Pool, count: int, gain: Callable[[Floats, Floats], Floats]) -> list[int]:
    """Choose one after the other the candidate of the largest gain, and condition everything on its label.

    :param gain: of each candidate from 1 + covariance of its own rows, shape (n, r, r), and their covariance with the
        targets, shape (n_target_rows, n, r).
    """
    own: Rows = {}
    across: Rows = {}
    for kind, rows in pool.candidates.items():
        flat = rows.reshape(-1, rows.shape[2])
        own[kind] = flat @ flat.T
        across[kind] = pool.targets[kind].reshape(-1, rows.shape[2]) @ flat.T
    n, free, chosen = len(pool.free), pool.free.copy(), list[int]()
    while len(chosen) < count and free.any():
        gains = np.zeros(n)
        for kind, covariance in own.items():
            r = len(covariance) // n
            blocks = np.einsum("ninj->nij", covariance.reshape(n, r, n, r)) + np.eye(r)
            gains += gain(blocks, across[kind].reshape(-1, n, r))
        best = int(np.argmax(np.where(free, gains, -np.inf)))
        chosen.append(best)
        free[best] = False
        for kind, covariance in own.items():
            r = len(covariance) // n
            its = slice(best * r, (best + 1) * r)
            known = np.linalg.solve(np.eye(r) + covariance[its, its], covariance[its])
            across[kind] = across[kind] - across[kind][:, its] @ known
            own[kind] = covariance - covariance[:, its] @ known
    return chosen
