"""Optional dependencies: imported when they are used; a missing one is named with the extra that installs it."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from herovlm.errors import MissingExtraError


def require(module: str, *, extra: str) -> ModuleType:
    """Import a module that an extra of this package installs.

    Args:
        module: its dotted name.
        extra: the name in `pip install 'herovlm[NAME]'`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # it is there, and misses something else
        raise MissingExtraError(
            f"{error.name} is not installed, or of another version; type: pip install 'herovlm[{extra}]'"
        ) from error
