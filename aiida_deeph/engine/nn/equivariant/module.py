"""Base of the network's modules: numeric constants that keep float64 accuracy and stay out of the weights file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn


class EngineModule(nn.Module):
    """A module whose constants are derived again from float64 whenever its precision changes."""

    def __init__(self) -> None:
        super().__init__()
        self._masters: dict[str, Tensor] = {}

    def constant(self, name: str, values: ArrayLike) -> None:
        """Register an array of constants under `self.NAME`; not saved with the weights."""
        master = torch.as_tensor(np.array(values))
        self._masters[name] = master
        self.register_buffer(
            name, master.to(torch.get_default_dtype()) if master.is_floating_point() else master, persistent=False
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> EngineModule:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, master in self._masters.items():
            current = getattr(self, name)
            if master.is_floating_point() and current.device.type != "meta":
                setattr(self, name, master.to(device=current.device, dtype=current.dtype))
        return self


class Function(torch.autograd.Function):
    """A function with a backward pass of its own, whose call type checkers know."""

    if TYPE_CHECKING:

        @classmethod
        def apply(cls, *arguments: Any) -> Any: ...


M = TypeVar("M", bound=nn.Module)


class Modules(nn.ModuleList, Generic[M]):
    """A list of modules of one class, which type checkers know."""

    if TYPE_CHECKING:

        def __getitem__(self, index: int) -> M: ...  # type: ignore[override]

        def __iter__(self) -> Iterator[M]: ...
