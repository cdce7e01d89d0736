from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from herovlm.ops.novelty import novelty
from herovlm.ops.select import ranks


def one_by_one(states: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """What the docstring says, patch by patch."""
    found = torch.ones_like(scores)
    for tile in range(len(states)):
        for patch in range(scores.shape[1]):
            better = [
                other
                for other in range(scores.shape[1])
                if scores[tile, other] > scores[tile, patch]
                or (scores[tile, other] == scores[tile, patch] and other < patch)
            ]
            for other in better:
                cosine = torch.cosine_similarity(states[tile, patch], states[tile, other], dim=0)
                found[tile, patch] = torch.minimum(found[tile, patch], (1 - cosine).clamp(0, 1))
    return found


@given(seed=st.integers(0, 10_000), tiles=st.integers(1, 3), patches=st.integers(1, 12))
def test_it_is_the_distance_to_the_nearest_better_patch(seed: int, tiles: int, patches: int) -> None:
    g = torch.Generator().manual_seed(seed)
    states, scores = (
        torch.randn(tiles, patches, 4, generator=g),
        torch.randint(0, 5, (tiles, patches), generator=g).float(),
    )
    order = ranks(scores, torch.ones(tiles, patches, dtype=torch.bool))
    assert torch.allclose(novelty(states, order), one_by_one(states, scores), atol=1e-6)


def test_length_does_not_matter_and_bfloat16_is_read_in_float32() -> None:
    states = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(1)).bfloat16()
    order = torch.arange(9).expand(2, 9)
    assert novelty(states, order).dtype == torch.float32
    assert torch.allclose(novelty(states, order), novelty(4 * states.float(), order), atol=1e-6)
