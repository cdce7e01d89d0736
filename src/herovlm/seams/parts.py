"""The parts of a module, looked through as fast as Python can, and once a call: a GPU waits while the host looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn


def modules(root: nn.Module) -> list[nn.Module]:
    """List a module and all its parts, each once, in the order of `nn.Module.modules`, whose names take time."""
    found: dict[nn.Module, None] = {}
    waiting = [root]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found[module] = None
            if module._modules:
                waiting += [part for part in reversed(module._modules.values()) if part is not None]
    return list(found)


def those(root: nn.Module, which: Callable[[nn.Module], bool]) -> list[Any]:
    """List the parts of a module that `which` is true of."""
    known = _known.get()
    if known is None:
        return [module for module in modules(root) if which(module)]
    if (root, which) not in known:
        if root not in known:
            known[root] = modules(root)
        known[root, which] = [module for module in known[root] if which(module)]
    return list(known[root, which])


def weights(root: nn.Module) -> list[Tensor]:
    """List the parameters of a module and of its parts; one that stands in several places comes as often."""
    return [one for module in modules(root) for one in module._parameters.values() if one is not None]


@contextmanager
def once() -> Iterator[None]:
    """Look through each module at most once while the body runs, which takes no module apart."""
    token = None if _known.get() is not None else _known.set({})
    try:
        yield
    finally:
        if token is not None:
            _known.reset(token)


_known: ContextVar[dict[Any, list[Any]] | None] = ContextVar("herovlm_parts", default=None)
