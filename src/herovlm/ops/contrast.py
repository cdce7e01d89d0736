"""Contrast of what a model says to several views of a picture, from the poorest to the best."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BARRED = -1e9  # the score of a token that cannot be said


def contrasted(logits: Tensor, weights: Sequence[float], top: int) -> Tensor:
    """Return what the best view says, pushed away from what the poorer ones say (SECOND, arXiv 2506.08391, section 3).

    l* = l_S + sum_i w_i (l_{i+1} - l_i), for the `top` likeliest tokens of l_S; with weights of 0 its likeliest token
    stays the likeliest.  A token that the best view must not say, at -inf, cannot be said; what a poorer one must not
    say is not pushed away from it.

    Args:
        logits: (S, B, V), the poorest view first.
        weights: w, one for each step from a view to the next.
        top: how many tokens can be said.

    Returns:
        (B, V) float32.
    """
    logits = logits.float()
    best, steps = logits[-1], logits.diff(dim=0)
    steps = steps.where(steps.isfinite(), 0)
    pushed = best + torch.einsum("s,sbv->bv", steps.new_tensor(weights), steps)
    said = best.topk(min(top, best.shape[-1]), -1).indices
    found = torch.full_like(best, BARRED).scatter(-1, said, pushed.gather(-1, said))
    return found.masked_fill(best.isneginf(), -torch.inf)
