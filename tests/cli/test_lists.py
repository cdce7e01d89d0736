"""`herovlm methods` and `herovlm models` list what the registry has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from saved import Cli

from herovlm import ModelError, registry

ROOT = Path(__file__).parents[2]


def test_methods_come_with_paper_and_fidelity(cli: Cli) -> None:
    listed = json.loads(cli("methods", "--json").stdout)
    assert [x["method"] for x in listed if x["where"] == "before the LLM"] == registry.methods()
    for one in listed:
        if one["where"] == "before the LLM":
            kind = registry.method(one["method"])
            assert (one["paper"], one["fidelity"]) == (kind.paper, kind.fidelity)
            assert one["what it does"].removesuffix(".") in " ".join(str(kind.__doc__).split())
            assert "arXiv" not in one["what it does"]
    printed = cli("methods").stdout
    assert all(one["method"] in printed for one in listed)
    assert "arXiv 2509.13067" in printed


def test_what_works_inside_the_llm_is_listed_apart(cli: Cli) -> None:
    listed = json.loads(cli("methods", "--json").stdout)
    assert [x["method"] for x in listed if x["where"] == "inside the LLM"] == registry.insides()
    before, inside = cli("methods").stdout.split("inside the LLM")
    assert "arXiv 2403.06764" in inside
    assert "arXiv 2509.13067" in before


def test_a_broken_package_of_others_does_not_hide_the_rest(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    others = {"herovlm.methods": {"broken": "no_such_module:Broken"}}
    monkeypatch.setattr("herovlm.registry._others", lambda group: others.get(group, {}))
    listed = {x["method"]: x for x in json.loads(cli("methods", "--json").stdout)}
    assert "no_such_module" in listed["broken"]["what it does"]
    assert listed["hero"]["fidelity"] == "golden parity"


def test_models_are_the_families(cli: Cli) -> None:
    listed = json.loads(cli("models", "--json").stdout)
    assert {x["model_type"] for x in listed} == set(registry.families())
    assert any("--model demo" in x["for example"] for x in listed)
    printed = cli("models").stdout
    assert all(registry.outline(where)["example"] in printed for where in registry.FAMILIES.values())


@pytest.mark.parametrize("kind", registry.families())
def test_a_family_in_full_says_of_every_method_whether_it_works(cli: Cli, kind: str) -> None:
    one = json.loads(cli("models", kind, "--json").stdout)
    groups = (set(one["methods"]), set(one["written as"]), set(one["refused"]))
    assert set.union(*groups) == set(registry.methods())
    assert sum(map(len, groups)) == len(registry.methods())
    assert all(one[what] for what in ("family", "for example", "sees through", "offers", "positions"))
    assert cli("models", kind).stdout.count("\n") > 8


def test_an_unknown_family_is_one_clear_error(cli: Cli) -> None:
    result = cli("models", "lava")
    assert result.exit_code == 2
    assert "did you mean 'llava'?" in result.stderr


def test_releases_said_to_be_tested_are_those_that_are() -> None:
    *older, newest = registry.TESTED
    run = (ROOT / ".ci" / "run").read_text("utf-8")
    assert f"for version in {' '.join(older)}; do" in run
    assert f"transformers=={newest}\n" in (ROOT / "constraints.txt").read_text("utf-8")


@pytest.mark.parametrize("command", ["methods", "models"])
def test_a_list_prints_as_a_table(cli: Cli, command: str) -> None:
    result = cli(command)
    assert result.exit_code == 0
    assert result.stdout.count("\n") > 3


@pytest.mark.parametrize(
    "words", [["methods"], ["models"], ["methods", "--json"], ["--help"], ["--version"], ["eval", "--help"]]
)
def test_lists_and_help_load_no_torch(words: list[str]) -> None:
    code = (
        "import sys; from herovlm.cli.main import app\n"
        f"try: app({words!r})\nexcept SystemExit as end: assert not end.code, end.code\n"
        "print(*[name for name in ('torch', 'transformers', 'numpy', 'PIL') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout
    assert done.stderr.split() == []


def test_what_is_read_from_the_source_is_what_the_classes_say() -> None:
    from herovlm.cli.methods import summary

    told = {name: (paper, fidelity, what) for name, paper, fidelity, what in rows_of()}
    for find, names in ((registry.method, registry.METHODS), (registry.inside, registry.INSIDE)):
        for name in names:
            kind = find(name)
            assert told[name] == (kind.paper, kind.fidelity, summary(kind))
    for kind, where in registry.FAMILIES.items():
        assert registry.outline(where)["name"] == registry._load(where, ModelError).name, kind


def rows_of() -> list[list[str]]:
    from herovlm.cli.methods import _row

    before = [_row(name, registry.METHODS, registry.method) for name in registry.METHODS]
    return before + [_row(name, registry.INSIDE, registry.inside) for name in registry.INSIDE]
