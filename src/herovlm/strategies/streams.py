"""Several views of each prompt as rows of one batch: one pass a token for all, and one token for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from herovlm.ops.contrast import contrasted


@dataclass(frozen=True)
class Contrast:
    """A logits processor: the rows of a prompt, the poorest view first, all get the contrast of their scores."""

    weights: Sequence[float]  # one for each step from a view to the next
    top: int  # how many tokens of the best view can be said

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Contrast (B * S, V) scores, row b * S + s is view s of prompt b."""
        views = len(self.weights) + 1
        pushed = contrasted(scores.view(-1, views, scores.shape[-1]).transpose(0, 1), self.weights, self.top)
        return pushed.repeat_interleave(views, 0).to(scores.dtype)
