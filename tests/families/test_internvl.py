"""InternVL: crops that the inputs do not describe, a thumbnail that comes last, four patches a position."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_models
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoProcessor, GotOcr2ImageProcessorPil, InternVLConfig
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

import herovlm
from herovlm.families.internvl import InternVL
from herovlm.types import Needs, Seen

SIDE = 4  # positions on a side of a tile
EVERY = Needs(attention=(0, 2), received=(1,), keys=(2,), queries=(2,), cls=True, hidden=True)


@pytest.fixture(scope="module")
def made() -> tiny_models.Made:
    return tiny_models.load("internvl")


def seen_of(made: tiny_models.Made, *pictures: Image.Image) -> tuple[Any, tuple[Seen, ...]]:
    inputs = made.inputs([[picture] for picture in pictures])
    return inputs, herovlm.see(made.model, inputs, needs=EVERY).seen(EVERY)


def test_pooling_is_the_order_of_the_pixel_shuffle(made: tiny_models.Made) -> None:
    picture = torch.arange(64.0).view(1, 8, 8, 1)  # each patch shows its number
    shuffled = made.model.model.pixel_shuffle(picture, 0.5).view(1, SIDE * SIDE, 4)
    pooled = InternVL().pooled(made.model, picture.view(1, 64), 1)
    assert torch.equal(pooled, shuffled.mean(-1))
    assert torch.equal(shuffled[0, 1].sort().values, torch.tensor([2.0, 3.0, 10.0, 11.0]))
    stacked = InternVL().pooled(made.model, picture.view(1, 1, 64).expand(2, 3, 64), 2)
    assert torch.equal(stacked, pooled.expand(2, 3, 16))


def test_signals_stand_in_the_cells_of_their_tile(made: tiny_models.Made) -> None:
    """The thumbnail is tile 0, though the processor gives it last; a tile looked at alone says the same."""
    inputs, (seen, other) = seen_of(made, tiny.picture(100, 64), tiny.picture(33, 61, 1))
    tower, pixels = made.model.model.vision_tower, inputs["pixel_values"]
    assert (seen.grid.tiles, other.grid.tiles) == ((2, 3), (2, 1))
    for image, tiles in ((seen, pixels[:7].roll(1, 0)), (other, pixels[7:].roll(1, 0))):
        with torch.no_grad():
            tower.set_attn_implementation("eager")
            out = tower(tiles, output_attentions=True)
            tower.set_attn_implementation("sdpa")
            want = made.model.model.get_image_features(tiles, return_dict=True).pooler_output

        def even(values: Tensor) -> Tensor:
            return values.unflatten(-1, (SIDE, 2, SIDE, 2)).mean((-3, -1)).flatten(-2)

        close = {"atol": 1e-4, "rtol": 1e-3}
        torch.testing.assert_close(image.features, want, **close)
        for block in (0, 2):
            torch.testing.assert_close(image.attention[block], even(out.attentions[block][:, :, 0, 1:]), **close)
        torch.testing.assert_close(image.received[1], even(out.attentions[1][:, :, 1:, 1:].mean(1).sum(1)), **close)
        torch.testing.assert_close(image.cls, out.last_hidden_state[:, 0], **close)
        assert image.keys[2].shape == (len(tiles), SIDE**2, 32)
        assert image.queries[2].shape == (len(tiles), 2, 32)
        with torch.no_grad():
            torch.testing.assert_close(made.model.model.multi_modal_projector(image.hidden), image.features, **close)


def test_the_thumbnail_is_read_last(made: tiny_models.Made) -> None:
    _, (seen,) = seen_of(made, tiny.picture(100, 64))
    cells = SIDE**2
    assert torch.equal(seen.slots, torch.cat((torch.arange(cells, 7 * cells), torch.arange(cells))))
    assert seen.grid.rows == 0


@pytest.mark.parametrize("size", tiny_models.SIZES, ids=str)
def test_crops_lie_as_the_processor_cut_them(made: tiny_models.Made, size: tuple[int, int]) -> None:
    _, (seen,) = seen_of(made, tiny.picture(*size))
    columns, rows = get_optimal_tiled_canvas(size[::-1], (32, 32), 1, 6)
    assert seen.grid.tiles == ((rows, columns) if rows * columns > 1 else (0, 0))


def test_a_blank_picture_has_crops_too(made: tiny_models.Made) -> None:
    _, (seen,) = seen_of(made, Image.new("RGB", (300, 40), "gray"))
    assert seen.grid.tiles in {(2, 3), (3, 2)}, "no way to lie looks better than another: the squarest is taken"
    assert seen.positions == 7 * SIDE**2


def test_the_canvas_of_crops_is_the_picture(made: tiny_models.Made) -> None:
    """A white square lights up the cells where it is."""
    blank = np.zeros((64, 96, 3), dtype=np.uint8)
    lit = blank.copy()
    lit[40:48, 16:40] = 255  # row 5, columns 2 to 4 of the positions
    pixels, plain = (made.inputs([[Image.fromarray(one)]])["pixel_values"] for one in (lit, blank))
    there = (pixels != plain).any(1).view(7, SIDE, 8, SIDE, 8).any(4).any(2).view(7, SIDE**2)
    _, (seen,) = seen_of(made, Image.fromarray(lit))
    assert seen.grid.canvas(there[:-1]).nonzero().tolist() == [[5, 2], [5, 3], [5, 4]]


def test_hero_is_told_what_to_write(made: tiny_models.Made) -> None:
    inputs = made.inputs([[tiny.picture(100, 64)]])
    with pytest.raises(herovlm.UnsupportedError, match=r"needs relevance; write 'hero\(alpha=1.0\)'"):
        herovlm.drop(made.model, inputs, keep=0.2)
    (kept,) = herovlm.drop(made.model, inputs, method="hero(alpha=1)", keep=0.2).kept
    assert kept.positions == round(0.2 * 7 * SIDE**2)
    assert not torch.equal(kept.mask, herovlm.drop(made.model, inputs, method="random", keep=0.2).kept[0].mask)


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"method": "downsample"}, "makes pictures smaller, which is not known for InternVL"),
        ({"method": "uniform", "narrow": 0.5}, "narrow works in the blocks of transformers' own CLIP"),
        ({"method": "hero(relevance='clip')"}, "needs relevance"),
        ({"method": "trim"}, "needs dots"),
    ],
    ids=str,
)
def test_what_it_cannot_do_is_one_clear_error(made: tiny_models.Made, how: Any, match: str) -> None:
    with pytest.raises(herovlm.UnsupportedError, match=match):
        herovlm.drop(made.model, made.inputs([[tiny.picture(100, 64)]]), **how)


def test_downsample_has_no_number_beforehand(made: tiny_models.Made) -> None:
    with pytest.raises(herovlm.UnsupportedError, match="smaller"):
        herovlm.token_count(made.model.config, (64, 100), herovlm.Request.of("downsample"))


def test_placeholders_that_no_tiles_fill_are_an_error(made: tiny_models.Made) -> None:
    inputs = made.inputs([[tiny.picture(100, 64)]])
    first = int((inputs["input_ids"][0] == made.image_token_id).nonzero()[3])
    torn = inputs["input_ids"].clone()
    torn[0, first] = 9
    with pytest.raises(herovlm.InputsError, match=r"runs of \[3, 108\]"):
        herovlm.drop(made.model, {**inputs, "input_ids": torn}, method="random")


def test_frames_of_a_video_are_pictures_of_one_tile(made: tiny_models.Made) -> None:
    """So its processor writes a video: each frame between marks of its own, all pixels behind each other."""
    text = "\n".join(f"Frame{i + 1}: <IMG_CONTEXT>" for i in range(3)) + "\nWhat?"
    given = made.inputs([[tiny.picture(32, 32, seed) for seed in range(3)]], [text])
    short = herovlm.drop(made.model, given, method="hero(alpha=1)", tokens=5)
    assert [kept.positions for kept in short.kept] == [5, 5, 5]
    whole = herovlm.drop(made.model, given, method="random", keep=1.0)
    with torch.no_grad():
        assert torch.equal(made.model(**whole).logits, made.model(**given).logits)


def test_most_crops_are_those_of_the_processor_beside_the_config(made: tiny_models.Made, tmp_path: Path) -> None:
    asked, size = herovlm.Request.of("full", keep=1.0), (100, 300)
    config = copy.deepcopy(made.model.config)
    assert herovlm.token_count(config, size, asked) == (3 + 1) * SIDE**2
    shutil.copytree(made.folder, tmp_path / "more")
    for path in (tmp_path / "more").glob("*processor_config.json"):
        path.write_text(path.read_text("utf-8").replace('"max_patches": 6', '"max_patches": 2'), "utf-8")
        assert json.loads(path.read_text("utf-8"))
    other, processor = (kind.from_pretrained(tmp_path / "more") for kind in (AutoConfig, AutoProcessor))
    counted = processor(images=[tiny.picture(300, 100)], text=made.chat(1), return_tensors="pt")
    assert herovlm.token_count(other, size, asked) == made.count(counted)[0] == 3 * SIDE**2
    config.name_or_path = ""  # nothing beside it: the processor's class says 12
    assert herovlm.token_count(config, (100, 1100), asked) == (11 + 1) * SIDE**2


def test_the_page_has_the_positions_of_the_models_own_cut() -> None:
    """docs/models/internvl.md against the image processor of transformers, without resizing a pixel."""
    page = (Path(__file__).parents[2] / "docs/models/internvl.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) × (\d+) \| (\d+) \| ([\d,]+) \|$", page, re.MULTILINE)
    assert len(rows) == 12
    side = InternVLConfig().vision_config.image_size[0]
    for high, wide, tiles, positions in rows:
        most = GotOcr2ImageProcessorPil.max_patches
        columns, down = get_optimal_tiled_canvas((int(high), int(wide)), (side, side), 1, most)
        count = columns * down + (columns * down > 1)
        assert (int(tiles), int(positions.replace(",", ""))) == (count, 256 * count)
