"""The one Jinja environment: what is written into a page is escaped, and what a template misses is an error."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def environment(part: str) -> Environment:
    """Return the templates of a part of this package, such as "viz": the files in its folder `templates`."""
    return Environment(
        loader=PackageLoader(f"herovlm.{part}"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
