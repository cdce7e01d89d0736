"""Chain-of-Spot (arXiv 2403.12966): say where to look, look there, answer with both pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from herovlm import budget, registry
from herovlm.errors import UnsupportedError
from herovlm.methods.fields import within
from herovlm.methods.hero import Hero
from herovlm.ops import region
from herovlm.ops.region import Box
from herovlm.strategies import crops, spots, turns
from herovlm.strategies.spots import Shown
from herovlm.strategy import Answered, Asking, Decoding
from herovlm.types import Needs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from herovlm.request import Request

LONGEST = 48  # tokens that a box may take


class First(NamedTuple):
    """The first turns of some prompts."""

    said: list[str]  # what the model said, "" where it was not asked
    boxes: list[Box | None]
    positions: list[int]  # visual ones that it read for it


@dataclass(frozen=True, kw_only=True)
class ChainOfSpot(Decoding):
    """Cuts out the region that the question is about, and answers with the crop as one more picture.

    The region is what the model writes when it is asked for it, "[x0, y0, x1, y1]" as shares of the picture's padded
    square (a model has to be taught that; what is no box is the whole picture), or the best square of HERO's weights,
    which needs no training.  The crop is cut out of the picture as it came where `pictures` are given, which show more
    than the model was shown if its processor made them smaller.  It has a budget of its own, spent by the same method,
    and so has the first turn, which reads the whole picture: places are read off position ids, and dropping closes
    those up.
    """

    name: ClassVar[str] = "chain_of_spot"
    paper: ClassVar[str] = "arXiv 2403.12966"
    fidelity: ClassVar[str] = "golden parity"  # of prompts, boxes and crops
    formula: ClassVar[str] = "box = what the model writes, or the square S with the largest Σ_S (w − mean w)"
    published: ClassVar[str] = (
        "It asks 'where' in training and 'what' in every evaluation.  It reads a box by cutting off the first and the "
        "last character and splitting at ', ', puts no corners in order, does not cut at the picture (what lies beyond "
        "it is black), has no least side, and stops at a crop of no area."
    )
    first: ClassVar[str] = "hero"

    roi: Literal["generated", "attention"] = "generated"  # who says where to look: the model, or HERO's weights
    word: Literal["what", "where"] = "what"  # how the model is asked: "what is the region of interest"
    where_keep: float = 1.0  # share of the picture's visual positions that the first turn reads
    crop_keep: float = 1.0  # share of the crop's visual positions that is kept
    least: int | None = None  # least side of the crop in pixels; None: as many as a tile has, so that none is enlarged

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        within(self, 1e-6, 1, "where_keep", "crop_keep")
        within(self, 1, float("inf"), "least")

    def needs(self, depth: int) -> Needs:
        """Return what HERO needs, where its weights say where to look."""
        return Hero().needs(depth) if self.roi == "attention" else Needs()

    def check(self, model: PreTrainedModel, request: Request) -> None:
        """Refuse models whose pictures cannot be put together, and positions that the crop has none of.

        Raises:
            UnsupportedError: it is one of these.
        """
        family = registry.family(model)
        if not family.shrinks:
            raise UnsupportedError(f"{self} cuts a crop out of a picture, which is not known for {family.name}")
        if request.positions == "original":
            raise UnsupportedError(
                f"{self} adds a picture that the untouched prompt has no positions for; use positions='compact'"
            )

    def answer(self, asking: Asking) -> Answered:
        """Answer in two turns, all prompts together."""
        model, request = asking.model, asking.request
        processor = spots.processor_of(model, request.processor)
        shown = [Shown.of(choice, row, processor) for choice, row in asking.prompts]
        least = self.least or int(model.config.vision_config.image_size)
        first = self._first(asking, shown, processor, least)
        boxes = [region.sound(box, least / max(s.picture.size)) for box, s in zip(first.boxes, shown, strict=True)]
        fill = crops.colour(processor.image_processor)
        cuts = [crops.cut(one.picture, box, fill) for one, box in zip(shown, boxes, strict=True)]
        questions = tuple(one.question for one in shown)
        own = replace(
            request, budget=budget.read(self.crop_keep), question=questions, processor=processor, strategy=None
        )
        closer = spots.look(model, processor, cuts, own)
        looks = [[one.look, crop] for one, crop in zip(shown, closer, strict=True)]
        chats = [
            turns.both(q, self.word, text) if text else [[None, None, q]]
            for q, text in zip(questions, first.said, strict=True)
        ]
        short = self._short(model, processor, chats, looks)
        facts, positions = [], []
        for box, text, where, pair in zip(boxes, first.said, first.positions, looks, strict=True):
            picture, crop = (one.kept.positions for one in pair)
            told = {"box": [round(end, 4) for end in box], "whole": box == region.WHOLE, "passes": 2 if text else 1}
            told |= {"picture_positions": picture, "crop_positions": crop}
            facts.append(told | ({"said": text, "where_positions": where} if text else {}))
            positions.append(float(where + picture + crop))
        return Answered(asking.run(short), tuple(positions), tuple(facts), short)

    def _first(self, asking: Asking, shown: Sequence[Shown], processor: Any, least: int) -> First:
        """Find where to look: ask the model, or HERO's weights."""
        if self.roi == "attention":
            return First([""] * len(shown), [one.best(processor, least) for one in shown], [0] * len(shown))
        looks = spots.again(shown, budget.read(self.where_keep))
        chats = [turns.where(one.question, self.word) for one in shown]
        short = self._short(asking.model, processor, chats, [[look] for look in looks])
        new = asking.run(short, new_tokens=LONGEST)
        told = [text.strip() for text in processor.tokenizer.batch_decode(new, skip_special_tokens=True)]
        boxes = [region.read(text) for text in told]
        image = getattr(processor, "image_token", "<image>")
        plain = [box is not None and image not in text for text, box in zip(told, boxes, strict=True)]
        said = [text if fine else region.text(region.WHOLE) for text, fine in zip(told, plain, strict=True)]
        return First(said, boxes, [look.kept.positions for look in looks])

    def _short(self, model: Any, processor: Any, chats: Sequence[Any], looks: Sequence[Sequence[turns.Look]]) -> Any:
        """Make the inputs of chats about pictures that were seen."""
        counts = [[look.geometry.positions for look in own] for own in looks]
        return turns.side_by_side(model, looks, *turns.tokens(model, processor, chats, counts))
