"""Optional dependencies: imported when they are used; a missing one is named with the extra that installs it."""

from __future__ import annotations

import re
from importlib import import_module, metadata
from types import ModuleType

from herovlm.errors import MissingExtraError


def require(module: str, *, extra: str) -> ModuleType:
    """Import a module that an extra of this package installs.

    Args:
        module: its dotted name.
        extra: its name in pyproject.toml.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # it is there, and misses something else
        wanted = _of(extra)
        how = (
            f"pip install {' '.join(wanted)}" if wanted else f"pip install '.[{extra}]' in the source folder of herovlm"
        )
        raise MissingExtraError(
            f"{error.name} is not installed, or of another version; it comes with the extra {extra!r}: {how}"
        ) from error


def require_all(*modules: str, extra: str) -> None:
    """Import all modules that long work will want, before it begins.

    Raises:
        MissingExtraError: one is not installed.
    """
    for module in modules:
        require(module, extra=extra)


def _of(extra: str) -> list[str]:
    """Name what an extra installs, as a shell takes it; nothing where this package is not installed."""
    try:
        lines = metadata.requires("herovlm") or []
    except metadata.PackageNotFoundError:
        return []
    parts = (line.partition(";") for line in lines)
    return [
        f"'{name.strip()}'" for name, _, when in parts if re.search(rf"extra == ['\"]{re.escape(extra)}['\"]", when)
    ]
