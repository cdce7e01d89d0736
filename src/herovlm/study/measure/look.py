"""What the vision tower sees in a picture, whatever is asked about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from herovlm import registry, view
from herovlm.eval.answer import Reader
from herovlm.eval.samples import Sample
from herovlm.prompt.template import prompt
from herovlm.types import Needs, Seen

if TYPE_CHECKING:
    from PIL import Image


def see(reader: Reader, image: Image.Image, needs: Needs) -> Seen:
    """Run the vision tower once over a picture.

    Raises:
        HeroError: the model or the picture cannot be used.
    """
    inputs = reader.processor(images=[image], text=[prompt(reader.processor, "?")], return_tensors="pt")
    inputs = inputs.to(reader.model.device, reader.model.dtype)
    (seen,) = view.see(reader.model, inputs, needs=needs).seen(needs)
    return seen


def depth(reader: Reader) -> int:
    """Count the blocks of the vision tower."""
    return registry.family(reader.model).depth(reader.model)


def wanted(sample: Sample) -> str:
    """Choose the right answer whose likelihood is measured: the one given most often, the first of several."""
    return max(sample.answers, key=sample.answers.count)
