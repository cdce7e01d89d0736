"""How a command ends: one clear sentence, no traceback, and an exit code.

0: all went well; a method that says it cannot do what was asked (a budget too small for it) is a line, and no failure
1: something failed: memory, disk, a file that is missing
2: wrong use
3: the command came to its end, but some of its cells failed: an error that no method raises on purpose, or a picture
   that could not be read; what they say stands in the output, and the same command tries them again
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import NoReturn, ParamSpec, TypeVar

import typer

from herovlm.errors import HeroError, TextTowerError, UsageError, reason

SOME_FAILED = 3

P = ParamSpec("P")
R = TypeVar("R")


def tidy(command: Callable[P, R]) -> Callable[P, R]:
    """Turn every error of a command into one sentence on stderr and an exit code."""

    @wraps(command)
    def tidied(*args: P.args, **kwargs: P.kwargs) -> R:
        _printable()
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except UsageError as error:
            fail(str(error), 2)
        except TextTowerError as error:
            fail(f"{error} (on the command line: --clip FOLDER or --method 'hero(alpha=1)')", 1)
        except HeroError as error:
            fail(str(error), 1)
        except Exception as error:
            if os.environ.get("HEROVLM_DEBUG"):
                raise
            fail(_unexpected(error), 1)

    return tidied


def _printable() -> None:
    """Let a terminal or file that knows fewer signs than we print have a question mark for each, and no error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def fail(message: str, code: int) -> NoReturn:
    """Write what is wrong to stderr and stop."""
    typer.secho("herovlm: ", err=True, nl=False, fg="red", bold=True)
    typer.echo(" ".join(message.split()), err=True)
    raise typer.Exit(code)


def some_failed(failed: Sequence[str], then: str = "") -> None:
    """End with 3 where something failed; `failed` is what it says, `then` what to do."""
    if failed:
        more = f" ({len(failed) - 1} more)" if len(failed) > 1 else ""
        fail(f"the rest is done, but this failed: {failed[0]}{more}{then}", SOME_FAILED)


def _unexpected(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'}: {error.strerror}"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "not enough memory; use a smaller model or a smaller keep"
    return f"unexpected {reason(error)} (HEROVLM_DEBUG=1 shows where)"
