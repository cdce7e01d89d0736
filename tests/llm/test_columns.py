"""What a shorter prompt tells the engine: where images stand, and which clusters their positions are in."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from grids import make_grid

from herovlm.llm import columns
from herovlm.types import Cut, Kept, Seen, Short

CONFIG = SimpleNamespace(image_token_id=9, get_text_config=lambda: SimpleNamespace(pad_token_id=0))


def test_a_newline_is_in_the_cluster_of_the_patch_before_it() -> None:
    grid = make_grid(1, 1, 2)  # a thumbnail and a tile of two rows, each closed by a newline
    mask = torch.tensor([[True, False, False, True], [False, True, True, False]])
    labels = torch.tensor([[4.0, -2, -2, 5], [-2, 6, 7, -2]])
    seen = Seen(grid, torch.ones_like(mask))
    kept = Kept(mask, torch.tensor([True, True]), why={"cluster": labels})
    ids = torch.tensor([[1, 9, 9, 9, 9, 9, 9, 3]])
    prompts = columns.prompts_of(Short({"input_ids": ids}, (seen,), (kept,)), CONFIG)
    assert prompts.groups is not None
    assert prompts.groups.tolist() == [[-1, 4, 5, 6, 6, 7, 7, -1]]
    assert prompts.image.tolist() == [[-1, 0, 0, 0, 0, 0, 0, -1]]
    assert prompts.counts == ((6,),)
    bare = columns.prompts_of(Short({"input_ids": ids}, (seen,), (Kept(mask, kept.newlines),)), CONFIG)
    assert bare.groups is None


def test_columns_go_on_in_the_order_of_the_cut() -> None:
    """A method may put what it merges behind what it keeps."""
    real = torch.tensor([[True] * 6, [False] + [True] * 5])
    before = columns.Columns(torch.arange(6).expand(2, 6), real)
    hidden = torch.arange(6.0).expand(2, 6)[..., None]
    merged, weights = torch.tensor([False, False, True]), torch.tensor([[0.5, 0.5, 0, 0]])
    cuts = [Cut(torch.tensor([2, 3, 0]), merged, weights), None]
    left, states = columns.cut(before, hidden, [torch.arange(1, 5), torch.arange(2, 5)], cuts, left=True)
    assert left.index.tolist() == [[0, 3, 4, 1, 5], [1, 2, 3, 4, 5]]
    assert states[..., 0].tolist() == [[0, 3, 4, 1.5, 5], [1, 2, 3, 4, 5]]


def test_the_mask_of_an_answer_shows_all_of_it() -> None:
    real = torch.tensor([[False, True, True], [True, True, True]])
    mask = columns.mask(real, later=2, queries=2, dtype=None)
    assert mask is not None
    assert mask[0, 0].tolist() == [[False, True, True, True, False], [False, True, True, True, True]]
    assert mask[1, 0].tolist() == [[True, True, True, True, False], [True, True, True, True, True]]
    assert columns.mask(real[1:], later=2, queries=1, dtype=None) is None
    added = columns.mask(real[1:], later=2, queries=1, dtype=torch.float32)
    assert added is not None
    assert added.tolist() == [[[[0.0] * 5]]]
    prompt = columns.mask(real, later=0, queries=3, dtype=None)
    assert prompt is not None
    assert prompt.any(-1).all(), "no query sees nothing: its softmax would be no number"
