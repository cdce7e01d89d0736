"""A cache that holds a shortened prompt serves where it was made; elsewhere its length misleads `generate`.

A sealed cache can be read, copied, cropped and saved by anybody.  The model goes on from it in the context that
shortened the prompt, and nowhere else.  Emptied, it is a plain cache again.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache as once
from typing import Any

import torch
from transformers.cache_utils import Cache

from herovlm.errors import UnsupportedError
from herovlm.seams.scope import Scope


def seal(value: Any, scope: Scope) -> None:
    """Let only code that belongs to `scope` go on from a cache, if it holds something."""
    if isinstance(value, Cache) and int(value.get_seq_length()):
        _lift(value)
        value._scope = scope
        kind: Any = type(value)
        value.__class__ = _sealed(kind)


def lift_empty(values: Iterable[Any]) -> None:
    """Make sealed caches that hold nothing plain again."""
    for value in values:
        if isinstance(value, Sealed) and not int(value.get_seq_length()):
            _lift(value)


def _lift(value: Any) -> None:
    if isinstance(value, Sealed):
        value.__class__ = type(value).__bases__[1]
        del value._scope


class Sealed(Cache):  # type: ignore[misc]
    """Comes before the class of a cache in the line of descent of one object."""

    _scope: Scope

    def update(self, *args: Any, **kwargs: Any) -> Any:
        """Write the keys and values of one layer, as any cache does.

        Raises:
            UnsupportedError: from outside.
        """
        return super().update(*args, **kwargs) if self._used() else self.update(*args, **kwargs)

    def get_mask_sizes(self, *args: Any, **kwargs: Any) -> Any:
        """Give the sizes of a mask, as any cache does: the model asks before it computes anything.

        Raises:
            UnsupportedError: from outside.
        """
        return super().get_mask_sizes(*args, **kwargs) if self._used() else self.get_mask_sizes(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "_is_user_defined" or self._used():  # what generate() does first with a cache that it is given
            super().__setattr__(name, value)
        else:
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return _empty, (type(self).__bases__[1],), vars(self)

    def _used(self) -> bool:
        """Check who goes on from it; False where it was empty and is a plain cache now."""
        if torch.compiler.is_compiling() or self._scope.here:
            return True
        lift_empty([self])
        if not isinstance(self, Sealed):
            return False
        raise UnsupportedError(
            "this cache (past_key_values) holds a prompt that herovlm.dropping() shortened, and you are outside of the "
            "context that it came from: generate() would cut the next prompt at the wrong place; start each turn with "
            "the whole conversation and no cache"
        )


@once
def _sealed(kind: Any) -> Any:
    return type(f"Sealed{kind.__name__}", (Sealed, kind), {"__module__": __name__})


def _empty(kind: Any) -> Any:
    made = _sealed(kind)
    return made.__new__(made)
