"""MMTok: text and picture are covered together."""

from __future__ import annotations

import dataclasses
from itertools import combinations

import pytest
import torch
from grids import make_seen
from torch.nn.functional import normalize

from herovlm.errors import MethodError
from herovlm.methods.mmtok import MmTok
from herovlm.types import Needs, Seen

NEEDS = MmTok().needs(24)


def covered(seen: Seen, picks: torch.Tensor, method: MmTok) -> torch.Tensor:
    """The objective on one tile without padding, from its definition."""
    x, v, z = (normalize(part, dim=-1) for part in (seen.features[0], seen.hidden[0], seen.words["keywords"]))
    said = (z @ x.T / method.text_temperature).softmax(1) / len(z)
    shown = method.alpha * (v @ v.T / method.picture_temperature).softmax(1) / len(v)
    return torch.cat([said, shown])[:, picks].amax(1).sum()


def test_needs() -> None:
    assert Needs(hidden=True, words=("keywords",)) == NEEDS
    assert MmTok(keywords=False).needs(24).words == ("all",)
    assert NEEDS.question


@pytest.mark.parametrize("alpha", [0.0, 0.5, 3.0])
def test_it_covers_nearly_as_much_as_the_best_set(alpha: float) -> None:
    """Greedy is within 1 - 1/e of the best of a submodular objective, and each pick adds the most that one can."""
    seen, method = make_seen(0, 0, 4, needs=NEEDS), MmTok(alpha=alpha, text_temperature=0.3)
    kept = [method.keep(seen, count).mask[0].nonzero()[:, 0] for count in (1, 2, 3)]
    values = [covered(seen, picks, method) for picks in kept]
    best = max(covered(seen, torch.tensor(picks), method) for picks in combinations(range(16), 3))
    assert values[-1] > (1 - 1 / torch.e) * best
    before = torch.empty(0, dtype=torch.long)
    for picks, value in zip(kept, values, strict=True):
        assert {*before.tolist()} <= {*picks.tolist()}
        every = [covered(seen, torch.cat([before, torch.tensor([j])]), method) for j in range(16)]
        torch.testing.assert_close(value, max(every))
        before = picks


def test_a_patch_that_a_word_names_is_kept_and_without_text_the_picture_decides() -> None:
    seen = make_seen(1, 2, 4, seed=3, needs=NEEDS)
    spots = torch.tensor([5, 20, 41])
    words = 7 * seen.features.flatten(0, 1)[spots]
    seen = dataclasses.replace(seen, words={"keywords": words})
    assert MmTok(alpha=0.01, scope="image").keep(seen, 3).mask.flatten()[spots].all()
    one = MmTok(alpha=1e6).keep(seen, 9).mask
    assert one.equal(MmTok(alpha=1e6).keep(dataclasses.replace(seen, words={"keywords": -words}), 9).mask)


def test_padding_is_never_kept_but_may_have_to_be_covered() -> None:
    seen = make_seen(1, 1, 6, (2, 0), seed=1, needs=NEEDS)
    g, code, same = torch.Generator().manual_seed(0), MmTok(alpha=5, padding="covered"), []
    for _ in range(8):  # what stands in the padding now and then changes nothing
        noise = torch.randn(seen.hidden.shape, generator=g)
        loud = dataclasses.replace(seen, hidden=torch.where(seen.valid[..., None], seen.hidden, noise))
        for alone in (MmTok(alpha=5), MmTok(alpha=5, scope="image")):
            assert alone.keep(seen, 20).mask.equal(alone.keep(loud, 20).mask)
        assert not (code.keep(loud, 20).mask & ~seen.valid).any()
        same.append(code.keep(seen, 20).mask.equal(code.keep(loud, 20).mask))
    assert not all(same)


def test_without_the_words_it_says_so() -> None:
    with pytest.raises(MethodError, match="words"):
        MmTok(keywords=False).keep(make_seen(1, 1, 4, needs=NEEDS), 5)
