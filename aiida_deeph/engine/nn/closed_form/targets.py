"""From blocks of H to what is fitted: irreps in the frame of each bond, sorted by |m| and by symmetry under exchange.

H_ij of a pair of shells couples to components t_J (spin scalars, or also parts of the spin vector). In the frame of the
bond, whose z axis lies along it, features and components with the same |m| meet; reflection through a plane that holds
the bond leaves, with X_(+m) and X_(-m) the features even and odd under it,
    t_(+m) = X_(+m) c, t_(-m) =  X_(-m) c       (natural parity: that of Y_J),
    t_(+m) = X_(-m) c, t_(-m) = -X_(+m) c       (unnatural).
Seen from j, H is the adjoint block, and the frame turns by pi about its y axis. Between atoms of one element the two
views obey the same law: t(B_ij) + q p t(B_ji), with q = +1, -1, p the parity of the block and both in the frame of ij,
have features of their own, half as many for each q, and what is fitted is Hermitian by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.nn.equivariant.wigner_eckart import components, coupling_matrix

Values = dict[tuple[int, int], Tensor]
"""(q, m) -> values of all outputs of this sector, shape (2, n, n_outputs): at +m and -m; (1, n, n_outputs) for m = 0.
Without exchange symmetry q = 0."""


@dataclass(frozen=True)
class Part:
    """One component of the pairs of shells of a class, in the order of `coupling_matrix`.

    :param rows: of the coupling matrix.
    :param natural: whether its parity is that of Y_J.
    :param exchange: sign under the adjoint of a block of two equal shells; 0 if the shells differ in l.
    """

    rows: slice
    J: int
    natural: bool
    exchange: int


class Targets:
    """Components of all pairs of shells of a layout."""

    def __init__(self, layout: EntryLayout) -> None:
        self.layout = layout
        self.spinful = layout.n_spin_blocks > 1
        places = {(pair, place): n for n, target in enumerate(layout.targets) for pair, place in target.shells.items()}
        self.partner = []
        for target in layout.targets:
            (a, b), (first, second) = next(iter(target.shells.items()))
            self.partner.append(places[(b, a), (second, first)])
        self.coupling = {key: torch.tensor(coupling_matrix(*key, self.spinful, False)) for key in layout.classes}
        self.inverse = {key: torch.linalg.pinv(matrix) for key, matrix in self.coupling.items()}
        self.parts = {key: self._parts(*key) for key in layout.classes}
        self.lmax = max(part.J for parts in self.parts.values() for part in parts)

    def _parts(self, l1: int, l2: int) -> list[Part]:
        result, start = [], 0
        for part in components(l1, l2, self.spinful, False):
            rows = slice(start, start + part.irrep.dim)
            start += part.irrep.dim
            # Without moments time reversal is a symmetry.
            if self.spinful and part.time_odd:
                continue
            exchange = 0
            if l1 == l2:
                row = self.coupling[l1, l2][rows][:1]
                exchange = round(float(self._adjoint_block(row, l1) @ self.inverse[l1, l2][:, rows.start]))
            result.append(Part(rows, part.irrep.l, part.irrep.p == (-1) ** part.irrep.l, exchange))
        return result

    def _adjoint_block(self, values: Tensor, l: int) -> Tensor:
        """The adjoint of blocks of two equal shells, as rows of real numbers."""
        d, n = 2 * l + 1, len(values)
        if not self.spinful:
            return values.view(n, d, d).transpose(1, 2).reshape(n, -1)
        turned = values.view(n, 2, 2, d, d, 2).permute(0, 2, 1, 4, 3, 5)
        return (turned * torch.tensor([1.0, -1.0], dtype=values.dtype)).reshape(n, -1)

    def columns_of(self, target: int) -> slice:
        """Columns of one target among the outputs."""
        first, t = int(self.layout.first_columns[target]), self.layout.targets[target]
        return slice(first, first + self.layout.n_spin_blocks * (2 * t.l1 + 1) * (2 * t.l2 + 1))

    @cached_property
    def adjoint(self) -> Tensor:
        """Column of H_ij(R) that each column of H_ji(-R) equals, up to complex conjugation; shape (n_columns,)."""
        result = torch.empty(self.layout.n_columns, dtype=torch.int64)
        s = self.layout.spin.multiplicity
        for n, target in enumerate(self.layout.targets):
            d1, d2 = 2 * target.l1 + 1, 2 * target.l2 + 1
            other = int(self.layout.first_columns[self.partner[n]]) + torch.arange(s * s * d1 * d2).view(s, s, d2, d1)
            result[self.columns_of(n)] = other.permute(1, 0, 3, 2).flatten()
        return result

    def adjoint_of(self, columns: Tensor) -> Tensor:
        """Columns of the reverse pairs."""
        result = columns[:, self.adjoint.to(columns.device)]
        return result.conj() if result.is_complex() else result


@dataclass(frozen=True)
class _Group:
    """Targets of one class that one pair of elements has, each pair of shells and its reverse once."""

    key: tuple[int, int]
    members: list[int]
    columns: Tensor


class _Outputs:
    """Components of the blocks of one pair of elements, those of the same J side by side.

    :param pair: two elements.
    """

    def __init__(self, targets: Targets, pair: tuple[str, str]) -> None:
        self.targets = targets
        same_element = pair[0] == pair[1]
        self.groups: list[_Group] = []
        self.natural: dict[int, list[bool]] = {}
        self.parity: dict[int, Tensor] = {}
        self.exchange: dict[int, list[int]] = {}  # of a block that is its own reverse, else 0
        for key, members in targets.layout.classes.items():
            chosen = [n for n in members if pair in targets.layout.targets[n].shells]
            if same_element:
                chosen = [n for n in chosen if n <= targets.partner[n]]
            if not chosen:
                continue
            places = [torch.arange(targets.layout.n_columns)[targets.columns_of(n)] for n in chosen]
            self.groups.append(_Group(key, chosen, torch.stack(places)))
            for part in targets.parts[key]:
                own = [part.exchange if targets.partner[n] == n else 0 for n in chosen]
                self.natural.setdefault(part.J, []).extend([part.natural] * len(chosen))
                self.exchange.setdefault(part.J, []).extend(own)
        for J, natural in self.natural.items():
            self.parity[J] = torch.tensor([(-1.0) ** J if n else -((-1.0) ** J) for n in natural])[:, None]
        self.has_reverse = torch.zeros(targets.layout.n_columns, dtype=torch.bool)
        for group in self.groups:
            for n in group.members:
                if same_element and targets.partner[n] != n:
                    self.has_reverse[targets.columns_of(n)] = True

    def components(self, columns: Tensor) -> dict[int, Tensor]:
        """Components in the laboratory by J, shape (n, n_channels, 2 J + 1), m = 0, +1, -1, ..."""
        found: dict[int, list[Tensor]] = {}
        for group in self.groups:
            values = columns[:, group.columns.to(columns.device)]
            if self.targets.spinful:
                values = torch.view_as_real(values.contiguous()).flatten(2)
            everything = values @ self.targets.inverse[group.key].to(values)
            for part in self.targets.parts[group.key]:
                found.setdefault(part.J, []).append(everything[:, :, part.rows])
        return {J: torch.cat(parts, dim=1) for J, parts in found.items()}

    def columns(self, components: dict[int, Tensor]) -> Tensor:
        """The inverse; columns of other targets are zero."""
        like = next(iter(components.values()))
        n = len(like)
        first = dict.fromkeys(components, 0)
        places, blocks = [], []
        for group in self.groups:
            count = len(group.members)
            parts, rows = [], []
            for part in self.targets.parts[group.key]:
                parts.append(components[part.J][:, first[part.J] : first[part.J] + count])
                rows.append(self.targets.coupling[group.key][part.rows])
                first[part.J] += count
            values = torch.cat(parts, dim=2) @ torch.cat(rows).to(like)
            if self.targets.spinful:
                values = torch.view_as_complex(values.view(n, count, -1, 2))
            places.append(group.columns.flatten())
            blocks.append(values.reshape(n, -1))
        order = torch.cat(places).to(like.device)
        result = blocks[0].new_zeros(n, self.targets.layout.n_columns)
        return result.index_copy(1, order, torch.cat(blocks, dim=1))


class BondTargets(_Outputs):
    """Blocks between two atoms of a pair of elements, the first not after the second in the order of the basis."""

    def __init__(self, targets: Targets, pair: tuple[str, str]) -> None:
        super().__init__(targets, pair)
        self.sectors = (1, -1) if pair[0] == pair[1] else (0,)
        self.chosen: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}
        for q in self.sectors:
            for J in self.natural:
                signs = self.parity[J][:, 0].tolist()
                kept = [q == 0 or e == 0 or e * p == q for e, p in zip(self.exchange[J], signs, strict=True)]
                for m in range(J + 1):
                    places = [n for n, k in enumerate(kept) if k and (m > 0 or self.natural[J][n])]
                    natural = torch.tensor([self.natural[J][n] for n in places], dtype=torch.bool)
                    self.chosen[q, J, m] = (torch.tensor(places, dtype=torch.int64), natural)

    def systems(self) -> list[tuple[int, int]]:
        """(q, m) of all linear systems."""
        return sorted({(q, m) for (q, _, m), (places, _) in self.chosen.items() if len(places)})

    def n_outputs(self, q: int, m: int) -> int:
        """Right-hand sides of a system."""
        return sum(len(self.chosen[q, J, m][0]) for J in sorted(self.natural) if m <= J)

    def encode(self, columns: Tensor, rotations: Sequence[Tensor]) -> Values:
        """Values that the features of each sector are fitted to.

        :param columns: of the labels, shape (n, n_columns).
        :param rotations: into the frame of each bond for J = 0, 1, ..., shape (n, 2 J + 1, 2 J + 1).
        """
        views = [self.components(columns)]
        if self.sectors != (0,):
            views.append(self.components(self.targets.adjoint_of(columns)))
        views = [{J: t @ rotations[J].transpose(1, 2) for J, t in view.items()} for view in views]
        result: Values = {}
        for q, m in self.systems():
            parts = []
            for J in sorted(self.natural):
                if m > J:
                    continue
                places, natural = self.chosen[q, J, m]
                t = views[0][J] if q == 0 else views[0][J] + q * self.parity[J].to(views[0][J]) * views[1][J]
                t = t[:, places]
                if m == 0:
                    parts.append(t[None, :, :, 0])
                else:
                    plus, minus = t[:, :, 2 * m - 1], t[:, :, 2 * m]
                    parts.append(torch.stack([torch.where(natural, plus, -minus), torch.where(natural, minus, plus)]))
            result[q, m] = torch.cat(parts, dim=2)
        return result

    def decode(self, values: Values, rotations: Sequence[Tensor]) -> Tensor:
        """Columns of the output from predicted values: the inverse of `encode`."""
        sums: dict[int, dict[int, Tensor]] = {}
        first = dict.fromkeys(values, 0)
        for q in self.sectors:
            for J in sorted(self.natural):
                t: list[Tensor | None] = [None] * (2 * J + 1)
                count = len(self.natural[J])
                for m in range(J + 1):
                    places, natural = self.chosen[q, J, m]
                    if not len(places):
                        continue
                    part = values[q, m][:, :, first[q, m] : first[q, m] + len(places)]
                    first[q, m] += len(places)
                    like = part.new_zeros(part.shape[1], count)
                    places = places.to(like.device)
                    if m == 0:
                        t[0] = like.index_copy(1, places, part[0])
                        continue
                    natural = natural.to(like.device)
                    t[2 * m - 1] = like.index_copy(1, places, torch.where(natural, part[0], part[1]))
                    t[2 * m] = like.index_copy(1, places, torch.where(natural, part[1], -part[0]))
                example = next(iter(values.values()))
                empty = example.new_zeros(example.shape[1], count)
                sums.setdefault(q, {})[J] = torch.stack([empty if x is None else x for x in t], dim=2)
        if self.sectors == (0,):
            return self.columns({J: t @ rotations[J] for J, t in sums[0].items()})
        own = self.columns({J: (sums[1][J] + sums[-1][J]) @ rotations[J] / 2 for J in sums[1]})
        reverse = {J: self.parity[J].to(t) * (t - sums[-1][J]) @ rotations[J] / 2 for J, t in sums[1].items()}
        other = self.columns(reverse) * self.has_reverse.to(own.device)
        return own + self.targets.adjoint_of(other)


class SiteTargets(_Outputs):
    """Blocks of the atoms of one element."""

    def __init__(self, targets: Targets, element: str) -> None:
        super().__init__(targets, (element, element))
        self.chosen: dict[tuple[int, bool], Tensor] = {}
        for J, exchange in self.exchange.items():
            for natural in (True, False):
                places = [n for n, e in enumerate(exchange) if e >= 0 and self.natural[J][n] == natural]
                if places:
                    self.chosen[J, natural] = torch.tensor(places, dtype=torch.int64)

    def encode(self, columns: Tensor) -> dict[tuple[int, bool], Tensor]:
        """(J, natural) -> values of all outputs, shape (2 J + 1, n, n_outputs)."""
        found = self.components(columns)
        return {(J, natural): found[J][:, places].permute(2, 0, 1) for (J, natural), places in self.chosen.items()}

    def decode(self, values: dict[tuple[int, bool], Tensor]) -> Tensor:
        """Columns of the output."""
        found: dict[int, Tensor] = {}
        for (J, natural), places in self.chosen.items():
            part = values[J, natural].permute(1, 2, 0)
            if J not in found:
                found[J] = part.new_zeros(len(part), len(self.natural[J]), 2 * J + 1)
            found[J] = found[J].index_copy(1, places.to(part.device), part)
        for J, channels in self.natural.items():
            like = next(iter(values.values()))
            found.setdefault(J, like.new_zeros(like.shape[1], len(channels), 2 * J + 1))
        own = self.columns(found)
        return own + self.targets.adjoint_of(own * self.has_reverse.to(own.device))
