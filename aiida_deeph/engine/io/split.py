"""Which members of a dataset are trained on, which validate, which test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from aiida_deeph.engine.config import Config, parse_config
from aiida_deeph.engine.errors import DeepHError, InputError

if TYPE_CHECKING:
    from aiida_deeph.engine.io.dataset import DatasetManifest, Member


class SplitConfig(Config):
    """Shares of training, validation and test members, drawn by seed from members sorted by uuid."""

    train: float = Field(default=0.6, gt=0, le=1)
    validation: float = Field(default=0.2, ge=0, lt=1)
    test: float = Field(default=0.2, ge=0, lt=1)
    seed: int = 42


def split_counts(n: int, shares: SplitConfig) -> dict[str, int]:
    """Members of each part: rounded down, the rest to the largest remainders."""
    exact = np.array([shares.train, shares.validation, shares.test]) * n
    counts = np.floor(exact + 1e-9).astype(int)
    left = int(np.floor(exact.sum() + 1e-9)) - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:left]] += 1
    return dict(zip(("train", "validation", "test"), counts.tolist(), strict=True))


def split(
    manifest: DatasetManifest, shares: SplitConfig, seed: int, earlier: Mapping[str, Sequence[str]] | None = None
) -> dict[str, list[Member]]:
    """Training, validation and test members: sorted by uuid, shuffled by the seed, cut by the shares.

    Every share is rounded down and the members left over go to the largest remainders; the result depends on the
    members alone, never on their order. Copies of one structure stay together, or tests would be of what was learnt:
    groups come first, each in the part that lacks most, and single members fill the parts up.

    :param earlier: uuid of the members of an earlier training's parts. What was trained on comes first, then its
        validation, then the rest, so that what was fitted to is tested with last.

    :raises InputError: the shares add up to more than 1, or leave no training or no test member.
    """
    parts = {"train": shares.train, "validation": shares.validation, "test": shares.test}
    total = sum(parts.values())
    if total > 1 + 1e-9:
        raise InputError("split is wrong", where="split", found=f"shares add up to {total:g}", expected="at most 1")
    members = sorted(manifest.members, key=lambda member: member.uuid)
    counts = list(split_counts(len(members), shares).values())
    for name, count in zip(parts, counts, strict=True):
        if not count and name != "validation":
            raise InputError(
                f"split leaves no {name} member",
                where="split",
                found=f"share {parts[name]:g} of {len(members)} members",
                remedy=f"raise the share or give more members (at least {int(np.ceil(1 / max(parts[name], 0.01)))})",
            )
    shuffled = [members[n] for n in np.random.default_rng(seed).permutation(len(members))]
    rank = {uuid: n for n, name in enumerate(("train", "validation")) for uuid in (earlier or {}).get(name, ())}
    groups: dict[str, list[int]] = {}
    for n, member in enumerate(shuffled):
        groups.setdefault(member.group or member.name, []).append(n)
    order = sorted(groups.values(), key=lambda group: min(rank.get(shuffled[n].uuid, 2) for n in group))
    chosen: dict[str, list[int]] = {name: [] for name in parts}
    lacking = dict(zip(parts, counts, strict=True))
    for group in (group for group in order if len(group) > 1):
        seen = min(rank.get(shuffled[n].uuid, 2) for n in group)
        part = ("train", "validation")[seen] if seen < 2 else max(("train", "test", "validation"), key=lacking.get)
        chosen[part] += group
        lacking[part] -= len(group)
    alone = iter([group[0] for group in order if len(group) == 1])
    for name in parts:
        chosen[name] += islice(alone, max(lacking[name], 0))
    for name in ("train", "test"):
        if not chosen[name]:
            raise InputError(
                f"split leaves no {name} member",
                where="split",
                found=f"{len(groups)} structures of which all {len(members)} members are copies",
                remedy="give more structures that differ",
            )
    return {name: [shuffled[n] for n in sorted(places)] for name, places in chosen.items()}


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
