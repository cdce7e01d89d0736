"""SparseVLM+: the heads that look at the picture rate it, and distance does not count."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from looks import turned

from herovlm.methods.inside.sparsevlm_plus import SparseVlmPlus
from herovlm.types import SeenInside

N, HEADS = 10, 4  # positions of the image, between one token of text and two


def look(heads: torch.Tensor, granted: int = 3) -> SeenInside:
    words = torch.tensor([[1.0, 0.0], [0.0, 4.0]])  # the second fits the picture
    where = torch.arange(1, N + 1)
    entered = (torch.tensor([0.0, 1.0]).expand(N, 2), words)
    given = {"heads": heads, "turned": turned(N + 3), "entered": entered}
    return SeenInside(3, 32, where, torch.zeros_like(where), (granted,), **given)


def fair(rating: torch.Tensor) -> torch.Tensor:
    """Attention of two words that is `rating` (N,) once what the distance does is divided out."""
    ones = turned(N + 3)
    rows = torch.zeros(2, N + 3)
    rows[:, 1 : N + 1] = rating * (ones[N + 1 :] @ ones[1 : N + 1].T) / ones.shape[1]
    return rows


def test_distance_is_divided_out() -> None:
    rating = torch.ones(N)
    rating[[0, 4, 7]] = 1.01
    rows = fair(rating)[None].expand(HEADS, -1, -1)
    assert SparseVlmPlus(floor=None).cut(look(rows)).keep.tolist() == [0, 4, 7]
    assert rows[0, 1, 1:].topk(3).indices.tolist() != [0, 4, 7], "the attention itself says something else"


def test_only_words_that_fit_and_heads_that_look_there_rate() -> None:
    up, down = torch.arange(1.0, N + 1), torch.arange(float(N), 0, -1)
    rows = torch.stack([fair(up), 0.5 * fair(down), 0.5 * fair(down), 0.5 * fair(down)])
    rows[:, 0] = fair(down)[0] * 9  # the other word
    assert SparseVlmPlus(heads=1, floor=None).cut(look(rows)).keep.tolist() == [7, 8, 9]
    assert SparseVlmPlus(heads=0.25, floor=None).cut(look(rows)).keep.tolist() == [7, 8, 9]
    assert SparseVlmPlus(heads=4, floor=None).cut(look(rows)).keep.tolist() == [0, 1, 2]


def test_a_distance_at_which_next_to_nothing_is_left_does_not_decide() -> None:
    seen = look(torch.rand(HEADS, 2, N + 3, generator=torch.manual_seed(0)))
    ones, angle = torch.ones(N + 3, 2), torch.full((N + 3,), math.pi / 2 - 1e-3)
    angle[6] = 0.0  # one position is nearer
    ones = torch.stack([angle.cos() - angle.sin(), angle.cos() + angle.sin()], 1)
    ones[N + 1 :] = 1.0  # the words
    seen = replace(seen, turned=ones)
    keep = SparseVlmPlus(floor=1e-6).cut(seen).keep.tolist()
    assert 5 not in keep
    rows = seen.heads.clone()  # type: ignore[union-attr]
    rows[..., 6] = 0.99
    rows[..., [1, 2, 3, 4, 5, 7, 8, 9, 10]] *= 0.05
    assert 5 in SparseVlmPlus().cut(replace(seen, heads=rows)).keep.tolist()
    assert 5 not in SparseVlmPlus(floor=None).cut(replace(seen, heads=rows)).keep.tolist()


@pytest.mark.parametrize(("plain", "left"), [((300, 200, 110), [300, 200, 110]), ((700, 80, 90), [576, 80, 80])])
def test_nothing_is_merged_so_counts_are_what_stays(plain: tuple[int, ...], left: list[int]) -> None:
    assert [*SparseVlmPlus(plain=plain).plan(576, 32).values()] == left
    assert SparseVlmPlus().plan(576, 32) == {3: 300, 7: 200, 16: 110}
