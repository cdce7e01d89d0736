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
    with pytest.raises(MissingExtraError, match=r"no_such_module is not .* pip install 'herovlm\[shiny\]'$"):
        require(module, extra="shiny")


def test_a_module_that_misses_another_is_not_taken_for_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_there.py").write_text("import no_such_module", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        require("half_there", extra="shiny")
