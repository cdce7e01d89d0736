"""Keep a fifth of the picture: early dropping of visual tokens for high-resolution vision-language models.

    short = herovlm.drop(model, inputs, method="hero", keep=0.2)
    answer = model.generate(**short, max_new_tokens=64)

Importing changes nothing and loads neither torch nor transformers until a name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from herovlm.errors import (
    BudgetError,
    HeroError,
    InputsError,
    MethodError,
    MissingExtraError,
    ModelError,
    PictureError,
    SetupError,
    TextTowerError,
    UnsupportedError,
    UsageError,
)

if TYPE_CHECKING:
    from herovlm.api import decoding, drop, dropping
    from herovlm.choose import select
    from herovlm.plan import token_count
    from herovlm.request import Request
    from herovlm.spec import parse
    from herovlm.types import Grid, Kept, Needs, Seen, Short
    from herovlm.view import View, see
    from herovlm.viz.show import show

__version__ = "0.1.0"

_LAZY = {
    "decoding": "api",
    "drop": "api",
    "dropping": "api",
    "parse": "spec",
    "Grid": "types",
    "Kept": "types",
    "Needs": "types",
    "Request": "request",
    "Seen": "types",
    "Short": "types",
    "View": "view",
    "see": "view",
    "select": "choose",
    "show": "viz.show",
    "token_count": "plan",
}

__all__ = [
    "BudgetError",
    "Grid",
    "HeroError",
    "InputsError",
    "Kept",
    "MethodError",
    "MissingExtraError",
    "ModelError",
    "Needs",
    "PictureError",
    "Request",
    "Seen",
    "SetupError",
    "Short",
    "TextTowerError",
    "UnsupportedError",
    "UsageError",
    "View",
    "decoding",
    "drop",
    "dropping",
    "parse",
    "see",
    "select",
    "show",
    "token_count",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _LAZY:
        raise AttributeError(f"module 'herovlm' has no attribute {name!r}")
    value = getattr(import_module(f"herovlm.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *_LAZY})
