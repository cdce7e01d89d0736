"""What one run gives a device to do, and how often the host waits for it: counted without a GPU, or by its profiler.

Every tensor that stems from weights, pixels or token ids counts as on the device, wherever it really is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

WAITING = {  # operations whose result has a shape or a value that the host needs to go on
    f"aten.{name}"
    for name in (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "equal",
        "bincount",
        "_unique2",
        "unique_consecutive",
        "unique_dim",
    )
}
BY_MASK = {
    "aten.index",
    "aten.index_put",
    "aten.index_put_",
    "aten._index_put_impl_",
}  # with a bool tensor: its nonzero
FREE = {"aten._unsafe_view"}  # a view that does not say so
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")  # how their names begin
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


@dataclass
class Traffic:
    """What was counted: operations on the device, views left out, and what the host read back."""

    operations: int = 0
    reads: Counter[str] = field(default_factory=Counter)  # the operation or the transfer -> how often

    @property
    def waits(self) -> int:
        """How often the host waited for the device."""
        return self.reads.total()


@contextmanager
def counted(roots: Iterable[Tensor]) -> Iterator[Traffic]:
    """Count while the body runs, on any device.

    Args:
        roots: tensors that count as on the device; so does all that is computed from them, and what the host copies
            back does not.

    Yields:
        The counts, complete when the body is done.
    """
    found = Traffic()
    device = _Device(found, roots)
    with _Transfers(device), device:
        yield found


def roots(model: nn.Module, inputs: Mapping[str, Any]) -> list[Tensor]:
    """List weights, buffers, and all inputs."""
    given = [value for value in inputs.values() if isinstance(value, Tensor)]
    return [*model.parameters(), *model.buffers(), *given]


def launched(run: Callable[[], object]) -> dict[str, int]:
    """Count with the profiler of CUDA: kernel launches (a graph is one) and waits of the host."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=activities) as profile:
        run()
    events: Counter[str] = Counter()
    for event in profile.key_averages():
        events["launches"] += event.count * event.key.startswith(LAUNCHES)
        events["waits"] += event.count * event.key.startswith(WAITS)
    return {name: events[name] for name in ("launches", "waits")}


class _Device(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows tensors through every operation."""

    def __init__(self, found: Traffic, roots: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found, self.paused, self.here = found, False, WeakTensorKeyDictionary()
        self.arrived(roots)

    def arrived(self, tensors: Iterable[Any]) -> None:
        for one in tensors:
            if isinstance(one, Tensor):
                self.here[one] = True

    def has(self, one: Any) -> bool:
        return isinstance(one, Tensor) and one in self.here

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        on_device = not self.paused and any(map(self.has, tree_leaves((args, kwargs))))
        out = func(*args, **kwargs)
        if on_device:
            name = str(func.overloadpacket)
            self.found.operations += not (func.is_view or name in FREE)
            masks = name in BY_MASK and any(self.has(i) and i.dtype == torch.bool for i in args[1])
            counts = name == "aten.repeat_interleave" and func._overloadname == "Tensor" and not kwargs
            if name in WAITING or masks or counts:
                self.found.reads[name] += 1
            self.arrived(tree_leaves(out))
        return out


class _Transfers(TorchFunctionMode):
    """Sees what no operation is on a CPU: tensors that the host takes over."""

    def __init__(self, device: _Device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        out = func(*args, **kwargs)
        if not args or not self.device.has(args[0]):
            return out
        where = [x for x in (*args[1:], *kwargs.values()) if isinstance(x, (str, torch.device))]
        copied = name == "cpu" or (name == "to" and any(torch.device(x).type == "cpu" for x in where))
        if copied or name in ("tolist", "numpy", "__array__"):
            self.device.found.reads[name] += 1
        if not copied:
            return out
        self.device.paused = True
        try:
            return out.detach().clone()  # the host's own
        finally:
            self.device.paused = False
