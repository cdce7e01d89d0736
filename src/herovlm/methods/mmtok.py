"""MMTok: keep patches that together cover the words of the question and the picture itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from herovlm.errors import MethodError
from herovlm.methods.base import Method
from herovlm.methods.fields import within
from herovlm.ops import coverage, select
from herovlm.ops.fit import fit
from herovlm.ops.greedy import Contests
from herovlm.ops.select import Scope
from herovlm.types import Kept, Needs, Newlines, Seen, Words


@dataclass(frozen=True, kw_only=True)
class MmTok(Method):
    """Pick, again and again, what adds most to the coverage of text and picture together (arXiv 2508.18264).

    Covered are the words of the question, by their cosine with patches in the input space of the LLM, and all patches
    of the tile, by the cosine of their states before the projector; a softmax over the patches makes shares of both.
    A word or a patch is covered as well as its best pick covers it.  On tiled models the authors keep the same number
    in every tile; here every tile keeps the same share of its valid patches.
    """

    alpha: float = 0.5  # weight of the picture beside the text
    text_temperature: float = 0.02  # of the softmax over cosines of words and patches
    picture_temperature: float = 0.2  # of the softmax over cosines of patches
    keywords: bool = True  # words that name something; False: every word of the question
    scope: Scope = "tile"  # "image": one contest over all tiles
    padding: Literal["out", "covered"] = "out"  # "covered": it is never kept, but has to be covered, as in the code

    name = "mmtok"
    fixed = True
    paper = "arXiv 2508.18264"
    fidelity = "golden parity"
    formula = "kept = greedy argmax Σ_r max_{j∈kept} C[r,j], C = [softmax(ẑ x̂ᵀ/τ_t)/m ; α·softmax(v̂ v̂ᵀ/τ_v)/N]"
    published = (
        "It keeps the same number of patches in every tile, padding included (but that of LLaVA-1.5, which it finds by "
        "the picture's size), and sends no newline.  Padding has to be covered there; that is padding='covered'.  "
        "With fewer patches than asked for it sends the first again and again.  On Qwen it reads all words, "
        "keywords=False, with text_temperature=0.01.  Its list of words that name nothing was not seen: ours gives the "
        "same words on the golden cases."
    )

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        within(self, 0, math.inf, "alpha")
        within(self, 1e-4, math.inf, "text_temperature", "picture_temperature")

    @property
    def kind(self) -> Words:
        """Which words of the question count."""
        return "keywords" if self.keywords else "all"

    def needs(self, depth: int) -> Needs:
        """Words of the question, and states before the projector."""
        return Needs(hidden=True, words=(self.kind,))

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Order the patches by what they add to the coverage and take the first."""
        words = seen.words.get(self.kind)
        if seen.features is None or seen.hidden is None or words is None:
            raise MethodError("method 'mmtok' compares patches with each other and with words: something is missing")
        contests = Contests.of(seen, self.scope, budget, padding=self.padding == "covered")
        cover = self.cover(words.float(), contests.take(seen.features), contests.take(seen.hidden), contests)
        scores = contests.scores(coverage.order(cover, contests.count, inside=contests.inside))
        patches = select.by_score(scores, seen, self.scope)
        return Kept(*fit(patches, seen, scores, budget, newlines), why={"score": scores})

    def cover(self, words: Tensor, features: Tensor, hidden: Tensor, contests: Contests) -> Tensor:
        """Return how well patches, features and states (C, n, D), cover words (m, D) and each other: (C, m + n, n)."""
        text, x, v = (normalize(part.float(), dim=-1) for part in (words, features, hidden))
        said, shown = text @ x.mT / self.text_temperature, v @ v.mT / self.picture_temperature
        if contests.inside is None or self.padding == "covered":
            return torch.cat([said.softmax(-1) / len(text), self.alpha * (shown.softmax(-1) / x.shape[1])], 1)
        blank = ~contests.inside[:, None]  # (C, 1, n) what fills a row neither covers nor is covered
        said, shown = (part.masked_fill(blank, -torch.inf).softmax(-1).masked_fill(blank, 0) for part in (said, shown))
        shown = (shown / contests.inside.sum(1).clamp(min=1)[:, None, None]).masked_fill(blank.mT, 0)
        return torch.cat([said / len(text), self.alpha * shown], 1)
