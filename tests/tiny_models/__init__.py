"""One file a model type: a tiny random model of the real class with its real processor and chat template.

    made = tiny_models.load("internvl")                     # saved, and loaded back by `from_pretrained`
    inputs = made.inputs([[picture, picture], [picture]])   # a batch of chats, through the chat template
    made.model.generate(**inputs, max_new_tokens=8)

A file `<model_type>.py` exposes

    CLASS    name of the model's class in transformers; a release that lacks it has no such family
    IMAGE    what stands for an image in a prompt, before the processor replaces it
    TOKENS   (width, height) of a picture -> how many positions the language model gives it
    build    seed -> (model, processor), made in memory
    finish   model -> None, where something belongs to a model that is not saved with it (the CLIP of a LLaVA)
    CALL     what its processor is told each time, if anything

and is found by lying here; `_parts.py` and `_torchvision.py` are what the files share.
"""

from __future__ import annotations

import atexit
import importlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import transformers
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
SIZES = (  # width, height: square, wide, tall, tiny, huge, odd
    (32, 32),
    (64, 64),
    (100, 64),
    (64, 100),
    (300, 40),
    (40, 300),
    (9, 7),
    (1000, 800),
    (61, 33),
    (33, 61),
    (128, 97),
    (97, 101),
)


def family(name: str) -> ModuleType:
    """Import the file of a model type."""
    return importlib.import_module(f"tiny_models.{name}")


def here() -> list[str]:
    """Model types that the installed transformers has."""
    return [name for name in NAMES if hasattr(transformers, family(name).CLASS)]


@dataclass
class Made:
    """A tiny model and its processor, as they come from a folder."""

    name: str
    folder: Path
    model: Any
    processor: Any

    @property
    def image_token_id(self) -> int:
        """What stands in `input_ids` where the language model reads an image."""
        token: int = self.model.config.image_token_id
        return token

    def chat(self, pictures: int, question: str = "What is it?") -> str:
        """A prompt that shows some pictures and asks."""
        content = [{"type": "image"}] * pictures + [{"type": "text", "text": question}]
        text: str = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        return text

    def inputs(
        self, pictures: Sequence[Sequence[Image.Image]], texts: Sequence[str] | None = None, side: str = "left"
    ) -> Any:
        """Process a batch; `pictures` lists the images of each prompt, `texts` are chats where not given."""
        prompts = [self.chat(len(some)) for some in pictures] if texts is None else list(texts)
        images = [list(some) for some in pictures] if any(pictures) else None  # a list for each prompt
        how = {"return_tensors": "pt", "padding": True, "padding_side": side}
        return self.processor(images=images, text=prompts, **how, **getattr(family(self.name), "CALL", {}))

    def count(self, inputs: Any) -> list[int]:
        """Positions that stand for images, prompt by prompt."""
        counts: list[int] = (inputs["input_ids"] == self.image_token_id).sum(1).tolist()
        return counts

    def features(self, inputs: Any) -> Any:
        """What the untouched model makes of the images of a batch, before its language model."""
        text = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
        vision = {name: value for name, value in inputs.items() if name not in text}
        with torch.no_grad():
            return self.model.base_model.get_image_features(**vision, return_dict=True)


def save(name: str, folder: Path, seed: int = 0) -> Path:
    """Save a tiny model as a user has one."""
    model, processor = family(name).build(seed)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@cache
def _root() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="tiny-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


@cache
def load(name: str, seed: int = 0) -> Made:
    """Save a tiny model and load it back, each once in a run of the tests; who changes it makes a copy."""
    folder = save(name, _root() / f"{name}-{seed}", seed)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    getattr(family(name), "finish", lambda _: None)(model)
    return Made(name, folder, model.eval(), AutoProcessor.from_pretrained(folder))


def rows(pooled: Any) -> int:
    """How many positions the features of images fill: a tensor of tiles, or a list of one tensor an image."""
    if torch.is_tensor(pooled):
        return pooled.shape[:-1].numel()
    return sum(len(part) for part in pooled)
