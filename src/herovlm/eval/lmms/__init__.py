"""Public benchmarks through lmms-eval: the model ids that its entry-point group `lmms_eval.models` finds here.

lmms-eval --model herovlm --model_args "pretrained=...,method=hero,keep=0.2" --tasks textvqa_val --batch_size 8
"""

from __future__ import annotations

from typing import Any

from herovlm import registry
from herovlm.extras import require

MODEL = "herovlm.eval.lmms.model.HeroVlm"


def manifests() -> list[Any]:
    """Name the model for lmms-eval: `herovlm`, and `herovlm_<family>` as other names of it.

    The family is read from the checkpoint, so a new family has its id as soon as it has its file.

    Raises:
        MissingExtraError: lmms-eval is not installed.
    """
    theirs = require("lmms_eval.models.registry_v2", extra="lmms")
    families = tuple(f"herovlm_{family}" for family in registry.families())
    return [theirs.ModelManifest("herovlm", chat_class_path=MODEL, aliases=families)]
