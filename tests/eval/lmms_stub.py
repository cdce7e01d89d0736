"""A stand-in for the little of lmms-eval that the model imports, so that the model is tested without it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


@dataclass
class TokenCounts:
    input_tokens: int
    output_tokens: int


@dataclass
class GenerationResult:
    text: str
    token_counts: TokenCounts


@dataclass
class Instance:
    args: tuple[Any, ...]


class Lmms:
    rank = 0

    def __init__(self) -> None:
        self.task_dict: dict[str, Any] = {}


@dataclass
class Said:
    """What the model told lmms-eval."""

    metrics: list[dict[str, float]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def install(patch: pytest.MonkeyPatch) -> tuple[Any, Said]:
    """Put the stand-in where lmms-eval would be; return our class as it is with it, and what it says."""
    said = Said()
    parts: dict[str, dict[str, Any]] = {
        "lmms_eval": {},
        "lmms_eval.api": {},
        "lmms_eval.api.instance": {
            "GenerationResult": GenerationResult,
            "Instance": Instance,
            "TokenCounts": TokenCounts,
        },
        "lmms_eval.api.model": {"lmms": Lmms},
        "lmms_eval.models": {},
        "lmms_eval.models.model_utils": {},
        "lmms_eval.models.model_utils.gen_metrics": {"log_metrics": lambda *args: said.metrics.append(args[3])},
        "lmms_eval.models.registry_v2": {"ModelManifest": lambda name, **rest: SimpleNamespace(model_id=name, **rest)},
        "lmms_eval.utils": {"eval_logger": SimpleNamespace(warning=said.warnings.append)},
    }
    for name, content in parts.items():
        module = ModuleType(name)
        vars(module).update(content)
        patch.setitem(sys.modules, name, module)
    name = "herovlm.eval.lmms.model"
    patch.setitem(sys.modules, name, ModuleType(name))  # what was there comes back when the test is over
    del sys.modules[name]
    return import_module(name).HeroVlm, said
