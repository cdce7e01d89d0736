"""What `--model_args` may say: "pretrained=FOLDER,method=hero(alpha=0.3, t_cls=0.1),keep=0.2"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from herovlm import budget, spec
from herovlm.budget import Budget
from herovlm.errors import UsageError
from herovlm.registry import did_you_mean
from herovlm.types import Newlines


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """How the model is loaded and what is dropped, checked; names as in `from_pretrained` and `herovlm.drop`."""

    pretrained: str  # folder of a checkpoint, or its name on the hub
    method: str = "hero"
    keep: float | str | None = None  # share of the visual positions, or "auto(loss=0.05)"; 0.2 where nothing is said
    tokens: int | None = None  # instead: number of positions an image
    positions: Literal["compact", "original"] | None = None  # the model family's own way
    newlines: Newlines | None = None
    clip: str | None = None  # folder or name of the CLIP that scores the question
    revision: str = "main"
    dtype: str = "auto"
    attn_implementation: str | None = None
    device: str | None = None
    device_map: str | None = None
    batch_size: int = 1
    max_new_tokens: int = 1024  # where the task does not say

    @property
    def budget(self) -> Budget:
        """What is kept.

        Raises:
            BudgetError: it cannot be read.
        """
        return budget.read(budget.parse(self.keep) if isinstance(self.keep, str) else self.keep, self.tokens)


def split(text: str) -> dict[str, str]:
    """Split "name=value,name=value" at the commas outside brackets and quotes; quotes around a value are taken off.

    lmms-eval's own rule cuts at commas inside parentheses too.

    Raises:
        UsageError: a part is not name=value, or a name comes twice.
    """
    found: dict[str, str] = {}
    for part in filter(None, spec.split(text)):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise UsageError(f"--model_args {text!r}: {part!r} is not name=value")
        if name in found:
            raise UsageError(f"--model_args {text!r} gives {name} twice")
        found[name] = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value
    return found


def check(given: Mapping[str, Any]) -> Arguments:
    """Read numbers and check everything, before any weights are loaded.

    Raises:
        UsageError: a name is unknown, or `pretrained` is missing, or a number is none.
        HeroError: as `herovlm.drop` for what is asked of it.
    """
    from herovlm.request import Request  # loads libraries

    known = [field.name for field in fields(Arguments)]
    for name in given:
        if name not in known:
            raise UsageError(f"herovlm takes no argument {name!r}{did_you_mean(name, known)}")
    if not given.get("pretrained"):
        raise UsageError("pretrained is missing: pretrained=FOLDER, or the name of a checkpoint on the hub")
    numbers = {name: _number(given[name]) for name in ("tokens", "batch_size", "max_new_tokens") if name in given}
    for name in ("batch_size", "max_new_tokens"):
        if not isinstance(numbers.get(name, 1), int) or numbers.get(name, 1) < 1:
            raise UsageError(
                f"{name}={given[name]} is not a whole number of at least 1; nothing is found out by itself"
            )
    arguments = Arguments(**{**given, **numbers})
    Request.of(arguments.method, keep=arguments.budget, positions=arguments.positions, newlines=arguments.newlines)
    return arguments


def _number(value: Any) -> Any:
    """Read a whole number; what is none stays as it is."""
    try:
        return int(value) if isinstance(value, str) else value
    except ValueError:
        return value
