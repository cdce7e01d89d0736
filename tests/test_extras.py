from __future__ import annotations

import json
from pathlib import Path

import pytest

from herovlm import MissingExtraError
from herovlm.extras import require


def test_what_is_there_is_imported() -> None:
    assert require("json", extra="any") is json


@pytest.mark.parametrize("module", ["no_such_module", "no_such_module.part", "json.no_such_module"])
def test_what_is_missing_is_named_with_its_extra(module: str) -> None:
    says = r"no_such_module is not .* the extra 'shiny': pip install '\.\[shiny\]' in the source folder of herovlm$"
    with pytest.raises(MissingExtraError, match=says):
        require(module, extra="shiny")


def test_what_an_extra_installs_is_spelt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """This works from anywhere; `herovlm[shiny]` only where an index has this package."""
    lines = ["torch>=2", "gloss>=1,<2 ; extra == 'shiny'", "wax; extra == 'shiny'", 'dull; extra == "shinyish"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: lines)
    with pytest.raises(MissingExtraError, match=r"pip install 'gloss>=1,<2' 'wax'$"):
        require("no_such_module", extra="shiny")


def test_a_module_that_misses_another_is_not_taken_for_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_there.py").write_text("import no_such_module", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        require("half_there", extra="shiny")
