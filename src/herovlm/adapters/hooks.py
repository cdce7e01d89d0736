"""Temporary hooks that change what modules are given or give back, and leave no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

Change = Callable[[Tensor], Tensor]


@contextmanager
def changing(inputs: Mapping[nn.Module, Change], outputs: Mapping[nn.Module, Change]) -> Iterator[None]:
    """Pass the first input, or the output, of some modules through a function while the body runs.

    Only calls from this thread are changed, so others may use the same modules meanwhile; and nothing is traced into a
    graph, which would outlive the body: code that torch.compile makes or has made runs as it always does.
    """
    owner = get_ident()

    def elsewhere() -> bool:
        return torch.compiler.is_compiling() or get_ident() != owner

    def before(change: Change) -> Callable[[nn.Module, tuple[Any, ...]], Any]:
        return lambda _module, args: None if elsewhere() or not args else (change(args[0]), *args[1:])

    def after(change: Change) -> Callable[[nn.Module, tuple[Any, ...], Any], Any]:
        return lambda _module, _args, output: None if elsewhere() else change(output)

    with ExitStack() as hooked:
        for module, change in inputs.items():
            hooked.callback(module.register_forward_pre_hook(before(change)).remove)
        for module, change in outputs.items():
            hooked.callback(module.register_forward_hook(after(change)).remove)
        yield
