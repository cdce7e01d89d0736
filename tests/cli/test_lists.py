"""`herovlm methods` and `herovlm models` list what the registry has."""

from __future__ import annotations

import json

import pytest
from saved import Cli

from herovlm import registry


def test_methods_come_with_paper_and_fidelity(cli: Cli) -> None:
    listed = json.loads(cli("methods", "--json").stdout)
    assert [x["method"] for x in listed] == registry.methods()
    for one in listed:
        kind = registry.method(one["method"])
        assert (one["paper"], one["fidelity"]) == (kind.paper, kind.fidelity)
        assert one["what it does"] in str(kind.__doc__)
    printed = cli("methods").stdout
    assert all(name in printed for name in registry.methods())
    assert "arXiv 2509.13067" in printed


def test_models_are_the_families_with_an_adapter(cli: Cli) -> None:
    listed = json.loads(cli("models", "--json").stdout)
    assert {x["model_type"] for x in listed} == set(registry.adapters())
    assert any("--model demo" in x["use"] for x in listed)


@pytest.mark.parametrize("command", ["methods", "models"])
def test_a_list_prints_as_a_table(cli: Cli, command: str) -> None:
    result = cli(command)
    assert result.exit_code == 0
    assert result.stdout.count("\n") > 3
