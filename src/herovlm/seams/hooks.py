"""Temporary hooks that read or change what modules are given or give back, for one caller only, and leave no trace.

Any number of threads may use one model.  A hook acts for the calls that it was made for and stays out of all others; of
graphs, which would outlive it; and of copies of the model, which nobody would take it off again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import Lock, get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Change = Callable[[Tensor], Tensor]
_numbering = Lock()  # torch numbers hooks without one, and two of one number are one hook


class Hook:
    """Calls `act`, as torch calls a hook, for the calls that `mine` claims; copied or pickled it does nothing.

    torch makes a list of a module's hooks and only then looks up which of them take keywords: one that another thread
    takes off in between is called without them.  By then it is nobody's business, and `act` is not told.
    """

    def __init__(self, act: Callable[..., Any], mine: Callable[[], bool], given: int) -> None:
        self.act, self.mine, self.given = act, mine, given  # how many arguments come behind the module

    def __call__(self, module: nn.Module, *given: Any) -> Any:
        """Act, or leave everything as it is."""
        if torch.compiler.is_compiling() or len(given) != self.given or not self.mine():
            return None
        return self.act(module, *given)

    def __reduce__(self) -> tuple[Any, ...]:
        return _idle, ()


def nothing(module: nn.Module, *given: Any) -> None:
    """Leave everything as it is: what a hook is in a copy of its module."""


def _idle() -> Callable[..., None]:
    return nothing


def this_thread() -> Callable[[], bool]:
    """Make a test for calls from the thread that runs now."""
    owner = get_ident()
    return lambda: get_ident() == owner


def everybody() -> bool:
    """Claim every call: for hooks that find out by themselves whom a call belongs to."""
    return True


def before(
    module: nn.Module, act: Callable[..., Any], mine: Callable[[], bool], *, keywords: bool = False
) -> RemovableHandle:
    """Call `act(module, args)`, or with `keywords` `act(module, args, kwargs)`, before a module runs."""
    with _numbering:
        return module.register_forward_pre_hook(Hook(act, mine, 1 + keywords), with_kwargs=keywords)


def after(
    module: nn.Module, act: Callable[..., Any], mine: Callable[[], bool], *, always: bool = False
) -> RemovableHandle:
    """Call `act(module, args, output)` when a module has run; `always` also after an error, with None as output."""
    with _numbering:
        return module.register_forward_hook(Hook(act, mine, 2), always_call=always)


@contextmanager
def changing(inputs: Mapping[nn.Module, Change], outputs: Mapping[nn.Module, Change]) -> Iterator[None]:
    """Pass the first input, or the output, of some modules through a function while the body runs them."""
    mine = this_thread()

    def into(change: Change) -> Callable[..., Any]:
        return lambda _module, args: (change(args[0]), *args[1:]) if args else None

    def out_of(change: Change) -> Callable[..., Any]:
        return lambda _module, _args, output: change(output)

    with ExitStack() as hooked:
        for module, change in inputs.items():
            hooked.callback(before(module, into(change), mine).remove)
        for module, change in outputs.items():
            hooked.callback(after(module, out_of(change), mine).remove)
        yield
