"""Two devices on a machine that has one: a tensor made without naming a device must not meet those of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

HOST, DEVICE = torch.device("cpu"), torch.device("cpu", 0)  # the same to torch, not to us
MAY_MIX = {Tensor.to, Tensor.copy_, Tensor.__getitem__, Tensor.__setitem__, Tensor.type_as}  # as on a GPU


class DeviceError(Exception):
    """What a GPU would have said."""


class TwoDevices(TorchFunctionMode):
    """What was there before is on the device; what is made while this is on is where it was asked to be, or its inputs.

    Tensors without dimensions may meet any, as on a GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.host: dict[int, Tensor] = {}  # by id; held, so that no id comes again

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.host.clear()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [x for x in tree_leaves((list(args), dict(kwargs))) if isinstance(x, Tensor)]
        host = [x for x in given if id(x) in self.host]
        if getattr(func, "__self__", None) is Tensor.device:
            return HOST if host else DEVICE
        if func not in MAY_MIX and any(x.ndim for x in host) and any(x.ndim for x in given if id(x) not in self.host):
            raise DeviceError(f"{getattr(func, '__name__', func)} is given tensors of the host and of the device")
        if func in (Tensor.numpy, Tensor.__array__) and not host:
            raise DeviceError("a tensor of the device is not for numpy")
        made = func(*args, **kwargs)
        place = self._place(func, args, kwargs, given)
        if func in (Tensor.to, Tensor.cpu, Tensor.type_as) and (made is args[0]):
            made = made.view_as(made)  # moved: an identity of its own
        old = {id(x) for x in given}
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and id(tensor) not in old:
                self.host.pop(id(tensor), None)
                if place == HOST:
                    self.host[id(tensor)] = tensor
        return made

    def _place(
        self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], given: Sequence[Tensor]
    ) -> torch.device:
        """Where a result is: where it was asked to be, else where its inputs are, else on the host."""
        asked: list[Any] = [kwargs.get("device")]
        if func in (Tensor.to, Tensor.type_as):
            asked += [*args[1:], kwargs.get("other")]
        for one in asked:
            if isinstance(one, Tensor):
                return HOST if id(one) in self.host else DEVICE
            if isinstance(one, (str, torch.device)):
                return torch.device(one)
        if func is Tensor.cpu or not given:
            return HOST
        main = [x for x in given if x.ndim] or given
        return HOST if id(main[0]) in self.host else DEVICE
