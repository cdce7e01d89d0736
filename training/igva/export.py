"""Write what was trained: a folder that `herovlm.modules.attach` takes, and the control's projector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from herovlm import demo
from herovlm.families.llava_next import LlavaNext
from herovlm.modules import CARD, fusion, igva

HEADS = 4


def put(file: Path, module: nn.Module) -> None:
    """Save weights in bfloat16."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: x.detach().to(torch.bfloat16).contiguous() for name, x in module.state_dict().items()}, file)
    file.chmod(0o644)


def export(made: fusion.Fusion, folder: Path, training: str) -> None:
    """Save a fusion of the demo model with its card."""
    put(folder / "model.safetensors", made)
    model, _ = demo.load()
    family, first = LlavaNext(), made.aggregator
    sizes = {
        "sentence": first.sentence_proj.in_features,
        "width": first.linear.in_features,
        "blocks": len(first.transformers),
        "heads": HEADS,
        "groups": made.groups,
    }
    card: dict[str, Any] = {
        "kind": "fusion",
        "name": folder.name,
        "paper": "arXiv 2501.08443",
        "sentence": igva.CLIP,
        "made_for": "the demo model of herovlm",
        "training": training,
        "shapes": igva.shapes_of(family, model) | sizes,
        "probes": igva.probes(family.projector(model)),
    }
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", "utf-8")
