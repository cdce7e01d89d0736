"""Imports point one way, the light modules stay light, and nothing undeclared is imported."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from sources import Source, sources
from tree import ROOT

import herovlm

# A part imports itself and parts of lower layers; parts of one layer never import each other.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"__main__"}),
    frozenset({"cli"}),
    frozenset({"app", "study"}),
    frozenset({"cost", "eval", "viz", "engines"}),
    frozenset({"demo"}),
    frozenset({"api"}),
    frozenset({"strategies"}),
    frozenset({"view"}),
    frozenset({"rebuild", "choose"}),
    frozenset({"plan"}),
    frozenset({"request"}),
    frozenset({"splice", "spec", "auto", "modules", "settle"}),
    frozenset({"mend", "registry"}),
    frozenset({"strategy"}),
    frozenset({"methods", "families", "llm"}),
    frozenset({"stage"}),
    frozenset({"towers", "prompt"}),
    frozenset({"seams"}),
    frozenset({"ops", "geometry"}),
    frozenset({"types", "pictures", "extras", "budget", "clock", "templates"}),
    frozenset({"errors"}),
)
LEVEL = {part: level for level, layer in enumerate(LAYERS) for part in layer}
KNOW_NO_MODEL = {"methods", "ops", "types", "errors", "pictures", "spec", "registry", "viz"}
MODULE_OF = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}  # distribution -> module, where they differ
HEAVY = ("torch", "transformers", "numpy", "PIL", "jinja2", "rich", "safetensors")

PUBLIC = [
    "BudgetError",
    "Grid",
    "HeroError",
    "InputsError",
    "Kept",
    "MethodError",
    "MissingExtraError",
    "ModelError",
    "Needs",
    "PictureError",
    "Request",
    "Seen",
    "SetupError",
    "Short",
    "TextTowerError",
    "UnsupportedError",
    "UsageError",
    "View",
    "decoding",
    "drop",
    "dropping",
    "parse",
    "see",
    "select",
    "show",
    "token_count",
]


def wrong_ways(source: Source) -> list[str]:
    """Imports of a module that point up or sideways."""
    wrong = []
    for name in source.imports():
        path = name.split(".")
        if path[0] != "herovlm" or source.part == "":  # the package itself only hands names on
            continue
        part = path[1] if len(path) > 1 and path[1] in LEVEL else ""
        here = LEVEL[source.part]
        if not part and here > LEVEL["viz"]:
            wrong.append(f"{source.name} imports {name}: only the outermost layers may import from herovlm itself")
        elif part and part != source.part and LEVEL[part] <= here:
            wrong.append(f"{source.name} imports {name}: {source.part} may not import {part}")
    return wrong


def roots(source: Source) -> set[str]:
    return {name.split(".")[0] for name in source.imports()}


def test_every_part_has_its_layer() -> None:
    assert {s.part for s in sources()} - {""} <= set(LEVEL)


def test_imports_point_one_way() -> None:
    assert [line for source in sources() for line in wrong_ways(source)] == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("herovlm.methods.hero", "from herovlm.families import base"),
        ("herovlm.families.llava", "import herovlm.methods.hero"),
        ("herovlm.ops.select", "from herovlm.registry import method"),
        ("herovlm.api", "from herovlm import viz"),
        ("herovlm.types", "from herovlm import drop"),
        ("herovlm.errors", "def f():\n    from .types import Kept"),
    ],
)
def test_a_wrong_way_is_seen(name: str, line: str) -> None:
    assert wrong_ways(Source(name, line))


def test_methods_know_no_model() -> None:
    assert [s.name for s in sources() if s.part in KNOW_NO_MODEL and "transformers" in roots(s)] == []


def test_every_import_is_declared() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    listed = pyproject.partition("\ndependencies = [")[2].partition("\n]")[0]
    extras = pyproject.partition("\n[project.optional-dependencies]")[2].partition("\ntest = [")[0]
    names = re.findall(r'"([\w-]+)', listed + extras)
    assert {"torch", "lmms-eval"} <= {*names}
    known = {MODULE_OF.get(name, name.replace("-", "_")) for name in names} | sys.stdlib_module_names | {"herovlm"}
    assert {f"{s.name}: {root}" for s in sources() for root in roots(s) - known} == set()


def test_public_names_are_these() -> None:
    assert herovlm.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(herovlm, name) is not None


@pytest.mark.parametrize("module", ["herovlm", "herovlm.registry", "herovlm.demo", "herovlm.cli.main"])
def test_importing_is_light(module: str) -> None:
    code = f"import {module}, sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
