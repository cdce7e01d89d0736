"""Every error the library raises on purpose.

HeroError
├── UsageError (also ValueError)      what was asked cannot be: exit code 2
│   ├── BudgetError                   keep is out of range, or too small for the method
│   ├── MethodError                   unknown method or field
│   ├── ModelError                    unknown or unsupported model family
│   ├── InputsError                   inputs do not fit the model
│   ├── PictureError                  not a picture, broken, or too large
│   └── UnsupportedError              would go silently wrong in transformers, so it is refused
└── SetupError (also RuntimeError)    something is missing on this machine: exit code 1
    ├── TextTowerError                no CLIP text tower for the relevance of the question
    └── MissingExtraError             an optional dependency is not installed
"""

import reprlib

_SHORT = reprlib.Repr()  # bounds depth and length, so that a value which contains itself many times ends too
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


class HeroError(Exception):
    """Base of all errors of herovlm."""


class UsageError(HeroError, ValueError):
    """What was asked cannot be done; the message says what to ask instead."""


class BudgetError(UsageError):
    """`keep` is out of range, or too small for the method."""


class MethodError(UsageError):
    """No such method, or no such field of it."""


class ModelError(UsageError):
    """The model is unknown or of a family that is not supported."""


class InputsError(UsageError):
    """The inputs do not fit the model."""


class PictureError(UsageError):
    """The file is not a picture that can be read safely."""


class UnsupportedError(UsageError):
    """A combination that is known to go silently wrong in transformers."""


class SetupError(HeroError, RuntimeError):
    """Something is missing on this machine."""


class TextTowerError(SetupError):
    """No CLIP text tower was found to score the question."""


class MissingExtraError(SetupError):
    """An optional dependency is not installed."""


def shortened(value: object, most: int = 80) -> str:
    """Write a value that somebody gave as Python does, cut to a line, without going through all of a large one."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # a number of thousands of digits
        text = type(value).__name__
    return text if len(text) <= most else f"{text[: most - 3]}..."


def is_text(text: str) -> bool:
    """Whether a text can be written: half of a sign (a lone surrogate), which JSON and YAML can spell, cannot."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def reason(error: BaseException) -> str:
    """One line about an error: ours in their own words, others with their kind before them."""
    lines = str(error).strip().splitlines() or [""]
    return " ".join(str(error).split()) if isinstance(error, HeroError) else f"{type(error).__name__}: {lines[0][:300]}"
