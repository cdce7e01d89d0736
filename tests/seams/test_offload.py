"""Weights that accelerate keeps in memory or on disk until they run give what the same weights in place give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

import herovlm
from herovlm.towers import relevance

accelerate = pytest.importorskip("accelerate")
PARTS = ("model.vision_tower", "model.multi_modal_projector", "model.language_model", "all")
METHODS = ["hero", "visionzip", "random + fastv(layer=1, keep=0.5)", "cdpruner"]


def offloaded(small: tiny.Tiny, part: str, folder: Path) -> Any:
    """Load a model with one part on disk and the others on the CPU; or all of it, the newline embedding too."""
    small.model.save_pretrained(folder / "model")
    plan = None
    if part != "all":
        names = {
            *PARTS[:-1],
            "lm_head",
            *(["model.image_newline"] if hasattr(small.model.model, "image_newline") else []),
        }
        plan = dict.fromkeys(names, "cpu") | {part: "disk"}
    kind = type(small.model)
    model = kind.from_pretrained(folder / "model", device_map=plan, offload_folder=str(folder)).eval()
    if part == "all":
        accelerate.disk_offload(model, folder / "all", execution_device=torch.device("cpu"))
    relevance.attach(model, small.clip, tiny.clip_tokenizer())
    return model


@pytest.mark.filterwarnings("ignore:The following device_map keys:UserWarning")  # a bare weight is no submodule
@pytest.mark.filterwarnings("ignore:You are calling .generate:UserWarning")  # 5.18 and 5.20: the model is on "meta"
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_offloaded_parts_give_the_same(models: Any, family: str, part: str, tmp_path: Path) -> None:
    small = models(family)
    model, inputs = offloaded(small, part, tmp_path), tiny.batch(small)
    assert any(weight.is_meta for weight in model.parameters())
    how = {"max_new_tokens": 4, "do_sample": False}
    for method in METHODS:
        answers = []
        for one in (small.model, model):
            with herovlm.dropping(one, method=method, keep=0.4, processor=small.processor):
                answers.append(one.generate(**inputs, **how))
        assert torch.equal(*answers), method
    assert any(weight.is_meta for weight in model.parameters()), "they are back on disk"
