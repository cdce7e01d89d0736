"""`herovlm methods` and `herovlm models` list what the registry has."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from saved import Cli

from herovlm import ModelError, registry


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
    assert any("--model demo" in x["use"] for x in listed)


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
