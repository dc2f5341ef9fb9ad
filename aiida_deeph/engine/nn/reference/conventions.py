"""Conventions of e3nn's versions under which one and the same state dict is another function.

| e3nn | normalisation of paths | signs of the Wigner 3j symbols |
|---|---|---|
| 0.3 | path | old |
| 0.4 | element | old |
| 0.5 and later | element | new (ours) |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.nn.equivariant.linear import Normalization

_FLIPPED = (
    "122 133 144 155 166 177 188 212 221 313 331 346 357 364 368 375 386 414 436 441 445 454 "
    "456 463 465 467 476 478 487 515 537 544 546 551 555 564 566 573 577 588 616 634 638 643 "
    "645 647 654 656 661 665 674 683 717 735 746 748 753 757 764 771 775 784 818 836 847 858 "
    "863 874 881 885 "
)
FLIPPED = frozenset(tuple(int(l) for l in triple) for triple in _FLIPPED.split())
"""(l1, l2, l3) up to l = 8 whose 3j symbol has the other sign in e3nn < 0.5: the tables of both, compared."""


@dataclass(frozen=True)
class Convention:
    """What the weights of a state dict mean."""

    normalization: Normalization
    old_signs: bool

    def sign(self, l1: int, l2: int, l3: int) -> int:
        """Sign of a 3j symbol of this convention relative to ours."""
        return -1 if self.old_signs and (l1, l2, l3) in FLIPPED else 1


CONVENTIONS: dict[str, Convention] = {
    "0.3": Convention("path", True),
    "0.4": Convention("element", True),
    "0.5": Convention("element", False),
}
"""By the first version of e3nn that has them."""


def e3nn_table(l1: int, l2: int, l3: int) -> Tensor:
    """The 3j symbol of e3nn itself (0.5 or later), which its checkpoints carry as buffers, float64."""
    # Imported here: 0.75 CPU seconds and 68 MiB, which trainings and predictions do not pay.
    from e3nn import o3

    table: Tensor = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
    return table


def detect_versions(state: Mapping[str, Tensor], where: object) -> tuple[str, ...]:
    """Versions of e3nn ('0.3', '0.4', '0.5') that can have written a state dict, from the 3j tables that it carries.

    Two are left if none of the tables is one whose sign differs between them.

    :param where: file, for the messages.
    :raises InputError: no table is left in the state dict.
    :raises DataError: the tables contradict each other or are none of e3nn's.
    """
    tables = {name: value for name, value in state.items() if "._w3j_" in name}
    if not tables:
        raise InputError(
            "version of e3nn cannot be told from the state dict",
            where=where,
            found="no 3j table",
            expected="buffers named _w3j_*",
            remedy="name the version of e3nn that trained the model with --e3nn",
        )
    signs = set()
    for name, value in tables.items():
        ls = tuple(int(part) for part in name.rsplit("_w3j_", 1)[1].split("_"))
        table = value.numpy().astype(np.float64)
        ours = e3nn_table(*ls).numpy()
        if table.shape != ours.shape or not np.isfinite(table).all():
            raise DataError(
                "3j table has a wrong shape", where=f"{where}, {name}", found=table.shape, expected=ours.shape
            )
        sign = np.sign((table * ours).sum())
        if ls in FLIPPED:
            signs.add(int(sign))
    if len(signs) > 1:
        raise DataError("3j tables contradict each other", where=where, remedy="name the version of e3nn with --e3nn")
    if not any("._compiled_main_left_right." in name for name in tables):
        return ("0.3",)
    if not signs:
        return ("0.4", "0.5")
    return ("0.5",) if signs == {1} else ("0.4",)
