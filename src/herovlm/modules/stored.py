"""Cross-attention in a folder: a card that says what it is and which model it was made for, and its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from herovlm.errors import SetupError, UsageError, reason
from herovlm.modules import WEIGHTS, weights
from herovlm.modules.cross_attention import CrossAttention, Shape

CARD, FILE = "cross_attention.json", "model.safetensors"


@dataclass(frozen=True)
class Stored:
    """Parts as they were trained."""

    parts: CrossAttention
    memory: str  # what they could look up in training
    model: Mapping[str, list[float]]  # some weights that name the model they were trained in
    trained: Mapping[str, Any]  # how


def names() -> list[str]:
    """List the parts that come with the package."""
    return sorted(card.parent.name for card in WEIGHTS.glob(f"*/{CARD}"))


def folder_of(name: str) -> Path:
    """Find the folder of parts that come with the package, or take a folder as it is.

    Raises:
        UsageError: there is no such folder.
    """
    if name in names():
        return WEIGHTS / name
    folder = Path(name).expanduser()
    if not name.strip() or not folder.is_dir():
        shipped = ", ".join(names()) or "none"
        raise UsageError(f"weights={name!r} is no folder, and none that comes along; those are: {shipped}")
    return folder


def load(folder: Path) -> Stored:
    """Read parts, in float32, not to be trained.

    Raises:
        SetupError: a file is missing, broken, or does not fit the other.
    """
    try:
        card = json.loads((folder / CARD).read_text("utf-8"))
        shape = Shape(**{**card["shape"], "layers": tuple(card["shape"]["layers"])})
        parts = CrossAttention(shape)
        parts.load_state_dict({name: value.float() for name, value in weights(folder).items()})
        return Stored(parts.eval().requires_grad_(False), card["memory"], card["model"], card["trained"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise SetupError(f"{folder} holds no cross-attention of herovlm: {reason(error)}") from error


def save(folder: Path, stored: Stored) -> None:
    """Write parts, in bfloat16, and their card."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.detach().to(torch.bfloat16).contiguous() for name, value in stored.parts.state_dict().items()
    }
    save_file(weights, folder / FILE)
    card = {"memory": stored.memory, "shape": asdict(stored.parts.shape), "trained": dict(stored.trained)}
    (folder / CARD).write_text(json.dumps({**card, "model": dict(stored.model)}, indent=1) + "\n", "utf-8")
