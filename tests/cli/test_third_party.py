"""A method of another package, installed as packages are, works wherever a method is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from grids import make_seen
from saved import Cli

import herovlm
from herovlm.errors import MethodError

MODULE = '''
from dataclasses import dataclass

import torch

from herovlm.methods.base import Method
from herovlm.methods.inside.base import Inside
from herovlm.ops.fit import fit
from herovlm.ops.select import by_score
from herovlm.types import Cut, Kept, Needs, NeedsInside


@dataclass(frozen=True, kw_only=True)
class FirstCome(Method):
    """Keep what comes first in every tile."""

    backwards: bool = False  # what comes last instead

    name = "first_come"
    paper = "arXiv 0000.00000"
    fidelity = "reconstruction"
    formula = "score = -n"

    def needs(self, depth):
        return Needs()

    def choose(self, seen, budget, newlines, share):
        scores = seen.valid.float().cumsum(1) * (1 if self.backwards else -1)
        return Kept(*fit(by_score(scores, seen, "tile"), seen, scores, budget, newlines))


@dataclass(frozen=True, kw_only=True)
class FirstHalf(Inside):
    """Keep the first half from the second layer on."""

    name = "first_half"
    paper = "arXiv 0000.00001"
    fidelity = "reconstruction"
    formula = "i < n / 2"

    def needs(self, depth):
        return {1: NeedsInside()}

    def counts(self, positions, depth):
        return (positions // 2,)

    def choose(self, look):
        return Cut(torch.cat([(look.image == i).nonzero()[:n, 0] for i, n in enumerate(look.granted)]))
'''

GROUPS = """
[herovlm.methods]
first_come = first_come:FirstCome
[herovlm.inside]
first_half = first_come:FirstHalf
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an installer leaves behind: a module, and a .dist-info folder beside it."""
    site = tmp_path / "site-packages"
    info = site / "first_come-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "first_come.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: first-come\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(GROUPS)
    monkeypatch.syspath_prepend(site)
    yield  # type: ignore[misc]
    sys.modules.pop("first_come", None)


@pytest.mark.usefixtures("installed")
def test_it_is_a_method_like_ours() -> None:
    seen = make_seen(2, 2, 4)
    method = herovlm.parse("first_come")
    kept = method.keep(seen, 20, "none")
    assert type(method).__module__ == "first_come"
    assert kept.mask.nonzero()[:, 1].max() == 3, "the first four of each of five tiles"
    assert str(herovlm.parse("first_come(backwards=True)")) == "first_come(backwards=True)"
    with pytest.raises(MethodError, match="did you mean 'backwards'"):
        herovlm.parse("first_come(backward=True)")


@pytest.mark.usefixtures("installed")
def test_it_is_listed_and_compared(cli: Cli, folder: Path, photo: Path) -> None:
    listed = json.loads(cli("methods", "--json").stdout)
    (one,) = [x for x in listed if x["method"] == "first_come"]
    assert (one["paper"], one["where"]) == ("arXiv 0000.00000", "before the LLM")
    assert one["what it does"] == "Keep what comes first in every tile."
    words = ("compare", photo, "what is it?", "--model", folder, "--max-new-tokens", 1, "--json", "--html", "a.html")
    report = json.loads(cli(*words, "--methods", "full,first_come,first_come(backwards=True)").stdout)
    full, first, last = report["questions"][0]["answers"]
    assert first["positions"] == last["positions"] == round(0.2 * full["of"])


@pytest.mark.usefixtures("installed")
def test_one_that_goes_on_inside_the_llm_too(cli: Cli, folder: Path, photo: Path) -> None:
    assert str(herovlm.parse("first_come + first_half")) == "first_come + first_half"
    listed = json.loads(cli("methods", "--json").stdout)
    assert [x["method"] for x in listed if x["where"] == "inside the LLM"][-1] == "first_half"
    words = ("compare", photo, "what is it?", "--model", folder, "--max-new-tokens", 1, "--json")
    (one,) = json.loads(cli(*words, "--methods", "first_come + first_half").stdout)["questions"][0]["answers"]
    assert one["layers"] == [one["positions"], one["positions"] // 2]


def test_a_package_that_is_gone_leaves_no_method() -> None:
    with pytest.raises(MethodError, match="no method is called 'first_come'"):
        herovlm.parse("first_come")
