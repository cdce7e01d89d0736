"""Trained parts for tiny models, with random weights, and the folders that they are attached from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from herovlm import modules, registry
from herovlm.modules import fusion, igva


def made(model: Any, channels: int = 32) -> fusion.Fusion:
    """A fusion whose mixed half counts, and whose weights are far from equal."""
    torch.manual_seed(3)
    groups = fusion.groups_of(4)
    aggregator = fusion.Aggregator(24, channels, 16, len(groups))
    torch.nn.init.normal_(aggregator.linear.weight, std=2.0)
    torch.nn.init.normal_(aggregator.sentence_proj.weight, std=3.0)
    torch.nn.init.normal_(aggregator.cls_proj.weight, std=1e-3)  # states of the tiny towers are large
    projector = fusion.widened(model.model.multi_modal_projector)
    torch.nn.init.normal_(projector.linear_1.weight)
    return fusion.Fusion(aggregator, projector, groups)


def written(model: Any, part: fusion.Fusion, folder: Path, **changes: Any) -> Path:
    """Write a fusion as a folder."""
    shapes = igva.shapes_of(registry.family(model), model)
    shapes |= {"sentence": 24, "width": 16, "blocks": 4, "heads": 4, "groups": part.groups}
    card = {"kind": "fusion", "name": "mine", "sentence": igva.CLIP, "shapes": shapes} | changes
    folder.mkdir(exist_ok=True)
    save_file(part.state_dict(), folder / "model.safetensors")
    (folder / modules.CARD).write_text(json.dumps(card), "utf-8")
    return folder
