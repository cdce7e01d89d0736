"""The pages that the code knows best are what the code says now."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image
from tree import ROOT

from herovlm import registry, spec
from herovlm.cli import options
from herovlm.methods.random import Random


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "docs")
    found = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture
def copy(generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / generate.CARD).parent.mkdir(parents=True)
    shutil.copy(ROOT / generate.CARD, tmp_path / generate.CARD)
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    return tmp_path


def change_page(root: Path) -> None:
    path = root / "docs/methods/hero.md"
    path.write_text(path.read_text("utf-8").replace("alpha", "beta"), "utf-8")


def change_table(root: Path) -> None:
    path = root / "README.md"
    path.write_text(path.read_text("utf-8").replace("golden parity", "perfect"), "utf-8")


def add_page(root: Path) -> None:
    (root / "docs/methods/gone.md").write_text("# a method that is no more", "utf-8")


def lose_page(root: Path) -> None:
    (root / "docs/methods/README.md").unlink()


def change_picture(root: Path) -> None:
    with Image.open(root / "docs/board.png") as picture:
        picture.rotate(180).save(root / "docs/board.png")


CHANGES = {
    "README.md": change_table,
    "docs/board.png": change_picture,
    "docs/methods/README.md": lose_page,
    "docs/methods/gone.md": add_page,
    "docs/methods/hero.md": change_page,
}


def test_nothing_is_out_of_date_and_every_change_is_seen_and_mended(
    generate: ModuleType, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a copy: all changes at once, for it takes seconds to make all pages."""
    assert generate.main(["--check"]) == 0, capsys.readouterr().out
    for change in CHANGES.values():
        change(copy)
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().out.splitlines() == [f"out of date: {name}" for name in CHANGES]
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


def test_what_stands_around_the_table_is_left_alone(generate: ModuleType) -> None:
    text = "before\n<!-- t:start -->\nold\n<!-- t:end -->\nafter\n"
    assert generate.fill(text, "t", ["new"]) == "before\n<!-- t:start -->\nnew\n<!-- t:end -->\nafter\n"
    with pytest.raises(SystemExit, match="t:start"):
        generate.fill("no marks", "t", [])


def test_every_method_has_its_page_and_its_row(generate: ModuleType) -> None:
    readme, index = (path.read_text("utf-8") for path in (ROOT / "README.md", ROOT / "docs/methods/README.md"))
    shown = {text.split(" + ")[-1]: text for text in options.every()}
    for name in (*registry.METHODS, *registry.INSIDE):
        page = (ROOT / f"docs/methods/{name}.md").read_text("utf-8")
        example = page.partition("in the spec: `")[2].partition("`")[0]
        assert spec.parse(example) == spec.parse(shown[name]), "the example sets a field to its default"
        assert f"--html {name}.html" in page
        assert f"(docs/methods/{name}.md)" in readme
        assert f"({name}.md)" in index


def test_every_field_says_what_it_means(generate: ModuleType) -> None:
    methods = [*generate.before(), *generate.inside()]
    rows = [(method.name, *row) for method in methods for row in generate.fields(method)]
    assert {row[0] for row in rows} == {method.name for method in methods}
    assert [f"{name}.{field}" for name, field, _, _, meaning in rows if len(meaning) < 5] == []


def test_a_page_says_how_far_it_can_be_trusted(generate: ModuleType) -> None:
    hero = generate.page(registry.method("hero"))
    assert registry.method("hero").formula in hero
    assert "that is `hero(variant='official')`" in hero
    assert "exactly the positions asked for, but not with `variant='official'`" in hero
    assert "not exactly what was asked" in generate.page(registry.method("full"))


def test_what_the_published_code_does_is_told(generate: ModuleType) -> None:
    for method in [*generate.before(), *generate.inside()]:
        _, heading, told = generate.page(method).partition("## What the authors' code does differently")
        assert bool(heading) == bool(method.published)
        assert " ".join(method.published.split()) in " ".join(told.split())


def test_methods_inside_the_llm_have_pages_too(generate: ModuleType) -> None:
    for name in registry.INSIDE:
        page = generate.page(registry.inside(name))
        assert "| where | inside the LLM" in page
        assert f" + {name}" in page
    assert "| where | before the LLM" in generate.page(registry.method("hero"))
    before, inside = "\n".join(generate.tables()).split("Inside the LLM")
    assert ("`fastv`" in inside, "`fastv`" in before, "`hero`" in inside) == (True, False, False)


@dataclass(frozen=True, kw_only=True)
class Commented(Random):
    one: str = "#"  # first
    two: tuple[int, ...] = (
        1,  # second
        2,
    )  # and more


def test_comments_beside_a_field_are_its_meaning(generate: ModuleType) -> None:
    meanings = {name: words for name, _, _, words in generate.fields(Commented)}
    assert meanings["one"] == "first"
    assert meanings["two"] == "second and more"
    assert {"seed", "newlines"} < {*meanings}


def test_wrong_use_is_told(generate: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--chekc"]) == 2
    assert "usage" in capsys.readouterr().err
