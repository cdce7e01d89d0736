"""What HERO's variants settle: the library's own rules, the paper's, and those of the authors' code."""

from __future__ import annotations

from typing import Literal, NamedTuple

from herovlm.types import Newlines, Relevance

Variant = Literal["herovlm", "paper", "official"]
Allocation = Literal["exact", "floored"]


class Rules(NamedTuple):
    """The rules of a variant; the fields of Hero of the same names override them."""

    novelty: float  # power of a patch's novelty on its score; 0 = the score alone
    gist: float  # the thumbnail claims gist * keep times its share of the valid patches; 0 = its plain share
    double_softmax: bool  # a second softmax over the attention rows, which all but flattens them
    allocation: Allocation  # "floored" loses what floor and clamp cut off
    relevance: Relevance  # "tower" costs no second vision pass; "clip" runs the original CLIP
    newlines: Newlines


VARIANTS: dict[Variant, Rules] = {
    "herovlm": Rules(1.0, 10.0, False, "exact", "tower", "none"),
    "paper": Rules(0.0, 0.0, False, "exact", "tower", "none"),
    "official": Rules(0.0, 0.0, True, "floored", "clip", "canvas"),
}
