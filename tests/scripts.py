"""The project's scripts as a user runs them, in this process: a new one would only load torch again."""

from __future__ import annotations

import contextlib
import io
import runpy
import sys

import pytest
from tree import ROOT


def run(script: str, *words: object) -> str:
    """Run `python script words...`, from the root of the project; return what it wrote to standard output."""
    path, out = ROOT / script, io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.syspath_prepend(path.parent)
        patch.setattr(sys, "argv", [str(path), *map(str, words)])
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise
    return out.getvalue()
