"""How a command ends: 0 when all went well, 2 for wrong use, 1 for failure, one clear sentence and no traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import NoReturn, ParamSpec, TypeVar

import typer

from herovlm.errors import HeroError, TextTowerError, UsageError

P = ParamSpec("P")
R = TypeVar("R")


def tidy(command: Callable[P, R]) -> Callable[P, R]:
    """Turn every error of a command into one sentence on stderr and an exit code."""

    @wraps(command)
    def tidied(*args: P.args, **kwargs: P.kwargs) -> R:
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


def fail(message: str, code: int) -> NoReturn:
    """Write what is wrong to stderr and stop."""
    typer.secho("herovlm: ", err=True, nl=False, fg="red", bold=True)
    typer.echo(" ".join(message.split()), err=True)
    raise typer.Exit(code)


def _unexpected(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'}: {error.strerror}"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "not enough memory; use a smaller model or a smaller keep"
    lines = str(error).strip().splitlines() or [""]
    return f"unexpected {type(error).__name__}: {lines[0][:300]} (HEROVLM_DEBUG=1 shows where)"
