"""Checks that concern several steps, done before anything is submitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.errors import DeepHError
from aiida_deeph.engine.training.config import SplitConfig


def split_counts(n: int, shares: SplitConfig) -> dict[str, int]:
    """Members of each part: rounded down, the rest to the largest remainders, as in engine.io.dataset.split."""
    exact = np.array([shares.train, shares.validation, shares.test]) * n
    counts = np.floor(exact + 1e-9).astype(int)
    left = int(np.floor(exact.sum() + 1e-9)) - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:left]] += 1
    return dict(zip(("train", "validation", "test"), counts.tolist(), strict=True))


def check_split(n: int, settings: Mapping[str, Any]) -> str | None:
    """Message if a split of n members leaves no training or no test member."""
    try:
        shares = parse_config(SplitConfig, dict(settings), "train.train.parameters.split")
    except DeepHError as error:
        return str(error)
    if shares.train + shares.validation + shares.test > 1 + 1e-9:
        return "the shares of the split add up to more than 1"
    counts = split_counts(n, shares)
    empty = [name for name in ("train", "test") if not counts[name]]
    if empty:
        cut = f"{n} labels in shares {shares.train:g}/{shares.validation:g}/{shares.test:g}"
        return f"the split leaves no {empty[0]} member: {cut}; give more labels or raise the share"
    return None
