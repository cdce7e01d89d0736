"""How much is kept: a share, a number of tokens, or what a calibration promises enough for; read and checked once.

`Share` and `Tokens` hold one value for every image, or one value an image in prompt order.  The text of a budget is
what columns of results are named by, and `parse` reads it back: "0.2" and "1.0,0.1" are shares, "64t" and "64t,128t"
numbers of tokens.
"""

from __future__ import annotations

import ast
import math
import re
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeVar

from herovlm.errors import BudgetError

DEFAULT = 0.2
Value = TypeVar("Value", int, float)


@dataclass(frozen=True)
class Share:
    """A share in (0, 1] of the visual positions that the untouched model sends for an image, newlines counted."""

    each: float | tuple[float, ...]  # of every image, or one an image

    @property
    def listed(self) -> bool:
        """Whether there is one value an image."""
        return isinstance(self.each, tuple)

    @property
    def whole(self) -> bool:
        """Whether everything is kept by request: the untouched model."""
        return all(share == 1.0 for share in _every(self.each))

    def of(self, positions: int, image: int = 0) -> int:
        """Number of positions for an image that has so many, at least 1."""
        return max(1, round(self.share(image) * positions))

    def share(self, image: int = 0) -> float:
        """Share of an image."""
        return self.each[image] if isinstance(self.each, tuple) else self.each

    def __str__(self) -> str:
        return ",".join(map(str, _every(self.each)))


@dataclass(frozen=True)
class Tokens:
    """A whole number of visual positions an image; an image that has fewer keeps all."""

    each: int | tuple[int, ...]  # of every image, or one an image

    @property
    def listed(self) -> bool:
        """Whether there is one value an image."""
        return isinstance(self.each, tuple)

    @property
    def whole(self) -> bool:
        """False: what is everything depends on the image."""
        return False

    def of(self, positions: int, image: int = 0) -> int:
        """Number of positions for an image that has so many, at most all of them."""
        return min(self.each[image] if isinstance(self.each, tuple) else self.each, positions)

    def share(self, image: int = 0) -> None:
        """None: no share was asked for."""

    def __str__(self) -> str:
        return ",".join(f"{count}t" for count in _every(self.each))


@dataclass(frozen=True)
class Auto:
    """As many positions as a picture needs for a loss that was stated beforehand; `herovlm.auto` says how."""

    loss: float = 0.05  # share of the untouched model's score that may go
    file: str | None = None  # the calibration; None looks for that of the model

    def __post_init__(self) -> None:
        """Check the loss.

        Raises:
            BudgetError: it is not between 0 and 1.
        """
        if isinstance(self.loss, bool) or not isinstance(self.loss, Real) or not 0 < self.loss < 1:
            raise BudgetError(
                f"auto({self.loss!r}): the loss is a share of the accuracy, between 0 and 1, such as 0.05"
            )
        if not isinstance(self.file, str | None):
            raise BudgetError(f"auto(file={self.file!r}) is not the name of a calibration file")

    listed = False  # never one value an image

    @property
    def whole(self) -> bool:
        """False: what is everything depends on the image."""
        return False

    def share(self, image: int = 0) -> None:
        """None: no share was asked for."""

    def __str__(self) -> str:
        return f"auto({self.loss:g})" if self.file is None else f"auto(loss={self.loss:g}, file={self.file!r})"


Budget = Share | Tokens | Auto


def read(keep: Any = None, tokens: Any = None) -> Budget:
    """Read what `herovlm.drop` calls `keep` and `tokens`; neither is a share of 0.2.

    Numbers may be Python's, numpy's, or arrays and tensors of them; a list or tuple has one value an image.

    Raises:
        BudgetError: both are given, or one is no such number; says which option was meant.
    """
    if tokens is not None:
        if keep is not None:
            raise BudgetError(
                f"keep={reprlib.repr(keep)} and tokens={reprlib.repr(tokens)} are both given; give one of them"
            )
        return Tokens(_read(tokens, "tokens", _count))
    if isinstance(keep, Share | Tokens | Auto):
        return keep
    if isinstance(keep, str):
        return _auto(keep)
    return Share(DEFAULT if keep is None else _read(keep, "keep", _share))


def parse(text: str) -> Budget:
    """Read the text of a budget: "0.2", "1.0,0.1" (one share an image), "64t", "64t,128t", "auto(0.05)".

    Raises:
        BudgetError: it is none of these.
    """
    if text.strip().startswith("auto"):
        return _auto(text)
    parts = [part.strip() for part in text.split(",")]
    if all(part.endswith("t") for part in parts):
        return tokens_of(",".join(part[:-1] for part in parts))
    return shares_of(text)


def shares_of(text: str) -> Share:
    """Read what was typed behind `--keep`: a share such as "0.2", or one an image, "1,0.1"; "1" means 1.0.

    Raises:
        BudgetError: it is none; where a number of positions was meant, says how to give it.
    """
    return Share(_typed(text, "keep", "0.2", float, _share))


def tokens_of(text: str) -> Tokens:
    """Read what was typed behind `--tokens`: a whole number such as "64", or one an image, "64,128".

    Raises:
        BudgetError: it is none.
    """
    return Tokens(_typed(text, "tokens", "64", int, _count))


def label(told: Any) -> str:
    """How tables and pages call a budget, given as itself or as its text: "keep 0.2", "tokens 64"."""
    text = f"{told}t" if isinstance(told, int) else str(told)
    return f"tokens {text.replace('t', '')}" if re.fullmatch(r"\d+t(,\d+t)*", text) else f"keep {text}"


def rank(told: Any) -> tuple[int, float, str]:
    """Order of budgets in a table, as `told` writes them: shares from the largest, then numbers, then others."""
    if isinstance(told, float):
        return 0, -told, ""
    number = re.fullmatch(r"(\d+)t?", str(told))
    return (1, -int(number[1]), "") if number else (2, 0, str(told))


def told(budget: Budget) -> float | str:
    """How records and JSON write a budget: one share as a number, all else as text."""
    return budget.each if isinstance(budget, Share) and not isinstance(budget.each, tuple) else str(budget)


def fits(budget: Budget, images: int) -> None:
    """Check that a budget with one value an image has as many values as there are images.

    Raises:
        BudgetError: it has more or fewer.
    """
    each = None if isinstance(budget, Auto) else budget.each
    if isinstance(each, tuple) and len(each) != images:
        name = "tokens" if isinstance(budget, Tokens) else "keep"
        raise BudgetError(
            f"{name}={list(each)} has {len(each)} value{'s' * (len(each) != 1)} for {images} "
            f"image{'s' * (images != 1)}; give one number for all, or one value an image in prompt order"
        )


def fits_image(budget: Budget, image: int) -> None:
    """Check that a budget has a value for an image of the call, counted from 0.

    Raises:
        BudgetError: it has one value an image, and none for this one.
    """
    each = None if isinstance(budget, Auto) else budget.each
    if type(image) is not int or image < 0 or (isinstance(each, tuple) and image >= len(each)):
        has = f"; the budget {budget} has {len(each)} values" if isinstance(each, tuple) else ""
        raise BudgetError(f"image={reprlib.repr(image)} is not the number of an image of the call, from 0 on{has}")


def _every(each: Value | tuple[Value, ...]) -> tuple[Value, ...]:
    return each if isinstance(each, tuple) else (each,)


def _read(given: Any, name: str, one: Callable[[Any, str], Value]) -> Value | tuple[Value, ...]:
    """Read a value, or one an image."""
    plain = _plain(given, name)
    if not isinstance(plain, list | tuple):
        return one(plain, f"{name}={reprlib.repr(plain)}")
    if not plain:
        raise BudgetError(f"{name}={plain} is empty; give one number for all images, or one value an image")
    return tuple(one(_plain(value, name), f"{name}[{i}]={reprlib.repr(value)}") for i, value in enumerate(plain))


def _plain(value: Any, name: str) -> Any:
    """Turn scalars, arrays and tensors into Python's numbers; a float32 of 0.2 is 0.2."""
    if isinstance(value, str | bool | int | list | tuple) or type(value) is float or not hasattr(value, "tolist"):
        return value
    try:
        found = value.tolist()
    except Exception as error:  # a tensor without data, say
        raise BudgetError(
            f"{name} is a {type(value).__name__} that holds no numbers ({error}); give numbers"
        ) from error
    if "64" in str(value.dtype):
        return found
    return [_short(one) for one in found] if isinstance(found, list) else _short(found)


def _short(value: Any) -> Any:
    """What a float32 was made of: 0.2, not 0.20000000298."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _share(value: Any, what: str) -> float:
    """Check a share."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise BudgetError(f"{what} is not a number; give a share such as keep=0.2, or tokens=64")
    if isinstance(value, Integral) and int(value) > 0:
        whole = "; all of them are keep=1.0" if value == 1 else ""
        raise BudgetError(f"{what} is a whole number; for that many positions an image say tokens={value}{whole}")
    share = float(value)
    if not 0.0 < share <= 1.0:
        raise BudgetError(f"{what} is not in (0, 1]; {_meant(share, 'tokens=')}")
    return share


def _count(value: Any, what: str) -> int:
    """Check a number of positions."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        share = f"; a share is keep={value}" if isinstance(value, float) and 0 < value <= 1 else ""
        raise BudgetError(f"{what} is not a whole number; give one such as tokens=64{share}")
    if value < 1:
        raise BudgetError(f"{what} keeps nothing; give a whole number of at least 1, such as tokens=64")
    return int(value)


def _meant(share: float, option: str) -> str:
    """Explain what a share is, and how to give a number where one was meant."""
    number = f"; for a number of positions an image say {option}{share:.0f}" if 1 < share < math.inf else ""
    return f"give a share such as 0.2, and 1.0 for all positions{number}"


def _typed(
    text: str, name: str, such: str, kind: Callable[[str], Value], one: Callable[[Any, str], Value]
) -> Value | tuple[Value, ...]:
    """Read numbers that were typed, with commas between."""
    found: list[Value] = []
    for part in text.split(","):
        try:
            number = kind(part)
        except ValueError:
            raise BudgetError(f"--{name} {text!r} is not a number; give one such as --{name} {such}") from None
        if name == "keep" and not 0.0 < number <= 1.0:
            raise BudgetError(f"--keep {text}: {part.strip()} is not in (0, 1]; {_meant(number, '--tokens ')}")
        found.append(one(number, f"--{name} {text}"))
    return tuple(found) if len(found) > 1 else found[0]


def _auto(text: str) -> Auto:
    """Read "auto", "auto(0.02)", "auto(loss=0.02)" or "auto(loss=0.02, file='calibration.json')"."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
        given = dict(zip(("loss",), map(ast.literal_eval, call.args), strict=len(call.args) > 1))
        given |= {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        if isinstance(call.func, ast.Name) and call.func.id == "auto" and given.keys() <= {"loss", "file"}:
            return Auto(**given)
    except BudgetError:
        raise
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        pass
    raise BudgetError(f"keep={reprlib.repr(text)} is not a number; give a share such as keep=0.2, or 'auto(loss=0.02)'")
