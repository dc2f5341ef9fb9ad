"""Which members of a dataset are trained on, which validate, which test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from aiida_deeph.engine.config import Config, parse_config
from aiida_deeph.engine.errors import DeepHError, InputError

if TYPE_CHECKING:
    from aiida_deeph.engine.io.dataset import DatasetManifest, Member


PARTS = ("train", "validation", "test")


class SplitConfig(Config):
    """Shares of training, validation and test members, drawn by seed from members sorted by uuid; or their names.

    :param train: share, or names of members; the same for the others. Where one part names its members all do, and
        those that are not given are empty.
    """

    train: Annotated[float, Field(gt=0, le=1)] | tuple[str, ...] = 0.6
    validation: Annotated[float, Field(ge=0, lt=1)] | tuple[str, ...] = 0.2
    test: Annotated[float, Field(ge=0, lt=1)] | tuple[str, ...] = 0.2
    seed: int = 42

    @model_validator(mode="before")
    @classmethod
    def _all_named(cls, values: Any) -> Any:
        if isinstance(values, dict) and any(isinstance(values.get(part), (list, tuple)) for part in PARTS):
            return {**dict.fromkeys(PARTS, ()), **values}
        return values

    @model_validator(mode="after")
    def _alike(self) -> SplitConfig:
        if self.names is None:
            if any(isinstance(getattr(self, part), tuple) for part in PARTS):
                raise ValueError("either shares or names for all parts")
            return self
        if not self.names["train"]:
            raise ValueError("no training member is named")
        everyone = [name for part in PARTS for name in self.names[part]]
        twice = sorted({name for name in everyone if everyone.count(name) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice[:5])}")
        return self

    @property
    def names(self) -> dict[str, tuple[str, ...]] | None:
        """Members of each part by name; None if they are drawn."""
        found = {part: getattr(self, part) for part in PARTS}
        return found if all(isinstance(value, tuple) for value in found.values()) else None

    @property
    def shares(self) -> dict[str, float]:
        """Share of each part, where they are drawn."""
        return {part: float(getattr(self, part)) for part in PARTS}


def split_counts(n: int, shares: SplitConfig) -> dict[str, int]:
    """Members of each part: rounded down, the rest to the largest remainders."""
    if shares.names is not None:
        return {part: len(names) for part, names in shares.names.items()}
    exact = np.array(list(shares.shares.values())) * n
    counts = np.floor(exact + 1e-9).astype(int)
    left = int(np.floor(exact.sum() + 1e-9)) - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:left]] += 1
    return dict(zip(PARTS, counts.tolist(), strict=True))


def split(
    manifest: DatasetManifest, shares: SplitConfig, seed: int, earlier: Mapping[str, Sequence[str]] | None = None
) -> dict[str, list[Member]]:
    """Training, validation and test members: as named, or sorted by uuid, shuffled by the seed, cut by the shares.

    Every share is rounded down and the members left over go to the largest remainders; the result depends on the
    members alone, never on their order. Copies of one structure stay together, or tests would be of what was learnt:
    groups come first, each in the part that lacks most, and single members fill the parts up.

    :param earlier: uuid of the members of an earlier training's parts. What was trained on comes first, then its
        validation, then the rest, so that what was fitted to is tested with last.

    :raises InputError: a name is unknown; the shares add up to more than 1, or leave no training member, or no test
        member though a share of them is wanted.
    """
    if shares.names is not None:
        return _named(manifest, shares.names)
    parts = shares.shares
    total = sum(parts.values())
    if total > 1 + 1e-9:
        raise InputError("split is wrong", where="split", found=f"shares add up to {total:g}", expected="at most 1")
    members = sorted(manifest.members, key=lambda member: member.uuid)
    counts = list(split_counts(len(members), shares).values())
    for name, count in zip(parts, counts, strict=True):
        if not count and name != "validation" and parts[name]:
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
        lacking_most = max(("train", "test", "validation"), key=lambda name: lacking[name])
        part = ("train", "validation", lacking_most)[seen]
        chosen[part] += group
        lacking[part] -= len(group)
    alone = iter([group[0] for group in order if len(group) == 1])
    for name in parts:
        chosen[name] += islice(alone, max(lacking[name], 0))
    for name in ("train", "test"):
        if not chosen[name] and parts[name]:
            raise InputError(
                f"split leaves no {name} member",
                where="split",
                found=f"{len(groups)} structures of which all {len(members)} members are copies",
                remedy="give more structures that differ",
            )
    return {name: [shuffled[n] for n in sorted(places)] for name, places in chosen.items()}


def _named(manifest: DatasetManifest, names: Mapping[str, Sequence[str]]) -> dict[str, list[Member]]:
    """Members of each part, in the order of their uuids."""
    known = {member.name: member for member in manifest.members}
    missing = [name for part in names.values() for name in part if name not in known]
    if missing:
        raise InputError(
            "split names members that the dataset lacks",
            where="split",
            found=", ".join(missing[:5]),
            expected=f"names of its {len(known)} members",
        )
    part_of: dict[str, tuple[str, str]] = {}  # of a structure: a part and the name of a member there
    for part, own in names.items():
        for name in own:
            first, other = part_of.setdefault(known[name].group or name, (part, name))
            if first != part:
                raise InputError(
                    "split names copies of one structure in two parts",
                    where="split",
                    found=f"{other} in {first}, {name} in {part}",
                    expected="copies in one part: a test of what was learnt tests nothing",
                )
    return {part: sorted((known[name] for name in own), key=lambda m: m.uuid) for part, own in names.items()}


def check_split(n: int, settings: Mapping[str, Any]) -> str | None:
    """Message if a split of n members leaves no training or no test member."""
    try:
        shares = parse_config(SplitConfig, dict(settings), "train.train.parameters.split")
    except DeepHError as error:
        return str(error)
    if shares.names is not None:
        # Which names there are, the dataset knows once it is made.
        wanted = sum(map(len, shares.names.values()))
        return f"the split names {wanted} members of {n} labels" if wanted > n else None
    if sum(shares.shares.values()) > 1 + 1e-9:
        return "the shares of the split add up to more than 1"
    counts = split_counts(n, shares)
    empty = [name for name in ("train", "test") if not counts[name] and shares.shares[name]]
    if empty:
        cut = f"{n} labels in shares {shares.train:g}/{shares.validation:g}/{shares.test:g}"
        return f"the split leaves no {empty[0]} member: {cut}; give more labels or raise the share"
    return None
