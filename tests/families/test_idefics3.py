"""Idefics3 and SmolVLM: tiles between markers, the whole picture last, blocks of patches behind a pixel shuffle."""

from __future__ import annotations

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
from transformers import AutoConfig, AutoProcessor
from tree import ROOT

import herovlm
from herovlm import registry
from herovlm.prompt import question
from herovlm.types import Needs, Seen

SIDE, CELLS = 4, 16  # positions of a tile
EVERY = Needs(received=(0, 2), hidden=True)
NAMES = [name for name in ("idefics3", "smolvlm") if name in tiny_models.here()]
PAGE = (ROOT / "docs/models/idefics3.md").read_text("utf-8")
MODELS = [tuple(map(int, own)) for own in re.findall(r"\((\d+), (\d+), (\d+)\)", PAGE)]  # tile, patch, shuffle
TABLE = [
    [int(cell.replace(",", "")) for cell in re.findall(r"[\d,]+", row)]
    for row in re.findall(r"^\| \d+ × .*$", PAGE, re.MULTILINE)
]  # height, width, tiles, positions of each model


@pytest.fixture(params=NAMES)
def made(request: pytest.FixtureRequest) -> tiny_models.Made:
    return tiny_models.load(request.param)


def seen_of(made: tiny_models.Made, inputs: Any) -> tuple[Seen, ...]:
    return herovlm.see(made.model, inputs, needs=EVERY).seen(EVERY)


def drawn(*sizes: tuple[int, int]) -> list[Image.Image]:
    return [tiny.picture(*size, seed=i) for i, size in enumerate(sizes)]


def test_pooling_is_the_order_of_the_pixel_shuffle(made: tiny_models.Made) -> None:
    picture = torch.arange(64.0).view(1, 64, 1)  # each patch shows its number
    shuffled = made.model.model.connector.pixel_shuffle(picture, 2)
    pooled = registry.family(made.model).pooled(made.model, picture[..., 0], 1)
    assert torch.equal(pooled, shuffled.mean(-1))
    assert torch.equal(shuffled[0, 1].sort().values, torch.tensor([2.0, 3.0, 10.0, 11.0]))


def test_signals_stand_in_the_cells_of_their_tile(made: tiny_models.Made) -> None:
    """Tile 0 is the whole picture, though it is read last; each tile says what it says alone."""
    inputs = made.inputs([drawn((100, 64), (40, 300)), drawn((33, 61))])
    tower, network, pixels = made.model.model.vision_model, made.model.model, inputs["pixel_values"]
    counts, shapes = [[7, 4], [7]], [(2, 3), (3, 1), (3, 2)]
    seen = list(seen_of(made, inputs))
    assert [one.grid.tiles for one in seen] == shapes
    for row, tiles in enumerate(counts):
        for own in torch.split(pixels[row, : sum(tiles)], tiles):
            image, own = seen.pop(0), own.roll(1, 0)
            with torch.no_grad():
                tower.set_attn_implementation("eager")
                maps = tower(own, output_attentions=True).attentions
                tower.set_attn_implementation("sdpa")
                want = torch.cat(
                    [x.flatten(0, -2) for x in network.get_image_features(own[None], return_dict=True).pooler_output]
                )
            torch.testing.assert_close(image.features.flatten(0, 1), want, atol=1e-4, rtol=1e-3)
            for block in (0, 2):
                torch.testing.assert_close(
                    image.received[block], even(maps[block].mean(1).sum(1)), atol=1e-4, rtol=1e-3
                )
            projected = registry.family(made.model).project(made.model, image.hidden)
            torch.testing.assert_close(projected, image.features, atol=1e-4, rtol=1e-3)
    assert not seen


def even(values: Tensor) -> Tensor:
    return values.unflatten(-1, (SIDE, 2, SIDE, 2)).mean((-3, -1)).flatten(-2)


def test_the_canvas_of_crops_is_the_picture(made: tiny_models.Made) -> None:
    """A white square lights up the cells where it is; each cell stands where the prompt says row and column."""
    blank = np.zeros((32, 48, 3), dtype=np.uint8)
    lit = blank.copy()
    lit[4:8, 12:24] = 255  # row 1, columns 3 to 5 of the positions
    (inputs, plain) = (made.inputs([[Image.fromarray(one)]]) for one in (lit, blank))
    there = (inputs["pixel_values"] != plain["pixel_values"])[0].any(1).view(7, SIDE, 4, SIDE, 4).any(4).any(2)
    (seen,) = seen_of(made, inputs)
    assert seen.grid.canvas(there[:-1].flatten(1)).nonzero().tolist() == [[1, 3], [1, 4], [1, 5]]
    short = herovlm.drop(made.model, inputs, method="random", keep=1.0)
    token = made.processor.tokenizer.convert_ids_to_tokens
    for tile in range(7):
        column = int((short.origin.tile[0] == tile).nonzero()[0])
        marker = token(int(inputs["input_ids"][0, column - 1]))
        assert marker == ("<global-img>" if tile == 0 else f"<row_{(tile - 1) // 3 + 1}_col_{(tile - 1) % 3 + 1}>")


def test_markers_of_an_emptied_tile_stay(made: tiny_models.Made) -> None:
    inputs = made.inputs([drawn((100, 64))])
    short = herovlm.drop(made.model, inputs, method="uniform", tokens=2)
    assert int((short.kept[0].granted == 0).sum()) >= 4
    text = inputs["input_ids"][inputs["input_ids"] != made.image_token_id]
    assert torch.equal(short["input_ids"][short["input_ids"] != made.image_token_id], text)
    assert made.model.generate(**short, max_new_tokens=3).shape[1] == short["input_ids"].shape[1] + 3


@pytest.mark.parametrize("sizes", [[(100, 64), (16, 16)], [(16, 16), (300, 40)], [(64, 64)] * 3], ids=str)
def test_pictures_of_one_prompt_are_told_apart(made: tiny_models.Made, sizes: list[tuple[int, int]]) -> None:
    """With words between them and without; a picture that is not split has no rows."""
    alone = [seen_of(made, made.inputs([[one]]))[0].grid.tiles for one in drawn(*sizes)]
    for text in ("{}" * len(sizes) + "?", "a {}\n b" * len(sizes), "\n{}\n\n" * len(sizes)):
        prompt = text.replace("{}", "<image>")
        seen = seen_of(made, made.inputs([drawn(*sizes)], [prompt]))
        assert [one.grid.tiles for one in seen] == alone
    whole = made.processor(
        images=[drawn(*sizes)], text=["<image>" * len(sizes)], return_tensors="pt", do_image_splitting=False
    )
    assert [one.grid.tiles for one in seen_of(made, whole)] == [(0, 0)] * len(sizes)


def test_a_row_taken_out_of_a_batch_is_a_batch(made: tiny_models.Made) -> None:
    inputs = made.inputs([drawn((64, 64)), drawn((40, 300))])
    row = {name: value[1:] for name, value in inputs.items()}
    (kept,) = herovlm.drop(made.model, row, method="random", keep=0.25).kept
    assert kept.positions == CELLS


@pytest.mark.parametrize("model", range(len(MODELS)))
def test_the_page_says_how_many_positions_pictures_have(made: tiny_models.Made, tmp_path: Path, model: int) -> None:
    """The processor cuts so many tiles, and a config says so without weights."""
    tile, patch, shuffle = MODELS[model]
    processor = AutoProcessor.from_pretrained(made.folder)
    images = processor.image_processor
    images.size, images.max_image_size = {"longest_edge": 4 * tile}, {"longest_edge": tile}
    processor.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(made.folder)
    config.vision_config.image_size, config.vision_config.patch_size, config.scale_factor = tile, patch, shuffle
    config.save_pretrained(tmp_path)
    beside, alone = AutoConfig.from_pretrained(tmp_path), config
    alone.name_or_path = ""  # no processor: as large as the tower, four tiles long
    asked = herovlm.Request.of("full", keep=1.0)
    for height, width, tiles, *positions in TABLE:
        assert positions[model] == tiles * (tile // patch // shuffle) ** 2
        assert herovlm.token_count(beside, (height, width), asked) == positions[model]
        assert herovlm.token_count(alone, (height, width), asked) == positions[model]
    for height, width, tiles, *_ in TABLE[2 + model :: 4]:
        cut = images(Image.new("RGB", (width, height)), return_tensors="pt")["pixel_values"]
        assert cut.shape[1] == tiles
    assert (len(MODELS), len(TABLE)) == (3, 12)


def test_settings_of_the_processor_beside_the_config_count(made: tiny_models.Made, tmp_path: Path) -> None:
    shutil.copytree(made.folder, tmp_path / "whole")
    for path in (tmp_path / "whole").glob("*processor_config.json"):
        told = json.loads(path.read_text("utf-8"))
        told.get("image_processor", told)["do_image_splitting"] = False
        path.write_text(json.dumps(told), "utf-8")
    config = AutoConfig.from_pretrained(tmp_path / "whole")
    asked = herovlm.Request.of("full", keep=1.0)
    assert herovlm.token_count(config, (64, 100), asked) == CELLS
    assert herovlm.token_count(made.model.config, (64, 100), asked) == 7 * CELLS


def test_the_question_is_read_without_markers(made: tiny_models.Made) -> None:
    ids = made.inputs([drawn((100, 64))], [made.chat(1, "Is it red?")])["input_ids"]
    read = question.from_ids(ids[0], torch.ones_like(ids[0]), made.image_token_id, made.processor.tokenizer)
    assert read == "Is it red?"


def test_hero_is_told_what_to_write(made: tiny_models.Made) -> None:
    inputs = made.inputs([drawn((100, 64))])
    with pytest.raises(herovlm.UnsupportedError, match=r"write 'hero\(signal=received\)'"):
        herovlm.drop(made.model, inputs, keep=0.2)
    (kept,) = herovlm.drop(made.model, inputs, method="hero(signal=received)", keep=0.2).kept
    assert kept.positions == round(0.2 * 7 * CELLS)
    assert not torch.equal(kept.mask, herovlm.drop(made.model, inputs, method="random", keep=0.2).kept[0].mask)


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"method": "downsample"}, "makes pictures smaller, which is not known for (Idefics3|SmolVLM)"),
        ({"method": "uniform", "narrow": 0.5}, "narrow works in the blocks of transformers' own CLIP"),
        ({"method": "trim"}, "needs dots"),
        ({"method": "cls_topk"}, "needs attention"),
    ],
    ids=str,
)
def test_what_it_cannot_do_is_one_clear_error(made: tiny_models.Made, how: Any, match: str) -> None:
    with pytest.raises(herovlm.UnsupportedError, match=match):
        herovlm.drop(made.model, made.inputs([drawn((100, 64))]), **how)


def test_wrong_inputs_are_clear_errors(made: tiny_models.Made) -> None:
    inputs = dict(made.inputs([drawn((100, 64))]))
    ids = inputs["input_ids"]
    places = (ids[0] == made.image_token_id).nonzero().flatten()
    torn, merged, visual = ids.clone(), ids.clone(), ids == made.image_token_id
    unmarked = torch.cat([ids[visual], ids[~visual]])[None]
    torn[0, places[3]] = 9
    merged[0, int(places[CELLS * 3 - 1]) + 1] = ids[0, int(places[0]) - 2]  # the newline that begins row 2
    wrong = {
        "no runs of 16": {"input_ids": torn},
        "not that of the processor": {"input_ids": merged},
        "text between the tiles": {"input_ids": unmarked},
        "a token of its own before each tile": {"input_ids": ids[visual][None], "attention_mask": None},
        "placeholders for 7 tiles": {"pixel_values": inputs["pixel_values"][:, :5], "pixel_attention_mask": None},
        "pixel_attention_mask of shape": {"pixel_attention_mask": inputs["pixel_attention_mask"][..., :8]},
        "are of 2 prompts": {
            "pixel_values": inputs["pixel_values"].repeat(2, 1, 1, 1, 1),
            "pixel_attention_mask": None,
        },
        "no image placeholder": {"input_ids": ids.masked_fill(ids == made.image_token_id, 9)},
        r"tiles of \(3, 7, 7\)": {"pixel_values": inputs["pixel_values"][..., :7], "pixel_attention_mask": None},
        "one tensor": {"pixel_values": [1]},
    }
    for match, how in wrong.items():
        given = {name: value for name, value in (inputs | how).items() if value is not None}
        with pytest.raises(herovlm.InputsError, match=match):
            herovlm.drop(made.model, given, method="random")


def test_a_tile_that_is_all_zero_is_an_error_as_in_the_untouched_model(made: tiny_models.Made) -> None:
    inputs = dict(made.inputs([drawn((100, 64))]))
    inputs["pixel_values"] = inputs["pixel_values"].clone()
    inputs["pixel_values"][0, 2] = 0
    with pytest.raises(herovlm.InputsError, match="gave 96 positions, but the prompts have placeholders for 112"):
        herovlm.drop(made.model, inputs, method="random")


@pytest.mark.parametrize("inside", ["fastv(layer=1)", "pyramiddrop(layers=(1,))"])
def test_inside_methods_work_in_its_language_model(made: tiny_models.Made, inside: str) -> None:
    inputs = made.inputs([drawn((100, 64))])
    with herovlm.dropping(made.model, method=f"random + {inside}", keep=0.5) as record:
        out = made.model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert out.shape[1] == inputs["input_ids"].shape[1] + 3
    assert record.last is not None


def test_smolvlm_in_groups_is_refused_where_transformers_reads_it_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As 5.20 does; what it can read goes through."""
    made = tiny_models.load("smolvlm")
    inputs, group = made.inputs([drawn((100, 64))]), made.model.config.vision_config.patch_size
    monkeypatch.setattr("herovlm.families.idefics3._reads_any_number", lambda: False)
    with pytest.raises(herovlm.UnsupportedError, match=f"groups of {group}.*tokens={group}"):
        herovlm.drop(made.model, inputs, method="uniform", tokens=group + 1)
    short = herovlm.drop(made.model, inputs, method="uniform", tokens=2 * group)
    assert torch.isfinite(made.model(**short).logits).all()
