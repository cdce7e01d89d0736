"""LLaVA-OneVision: shrunk canvases, several pictures, what stands in for CLS rows, and what is refused."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import tiny
import tiny_models
import torch
from tiny_models import Made
from torch.nn.functional import interpolate

import herovlm
from herovlm.families.llava_onevision import LlavaOnevision
from herovlm.geometry import Geometry
from herovlm.types import Needs, Seen
from herovlm.viz.geometry import pixels

NAME = "llava_onevision"
SHRUNK = [(1000, 800), (800, 1000), (64, 100), (128, 97)]  # width, height: canvases of more than six tiles
REAL = {  # height, width -> positions of the 7B model: tiles of 27 x 27 patches, canvases of up to 9 tiles
    (384, 384): 1485,
    (336, 336): 1485,
    (768, 768): 3699,
    (480, 640): 2929,
    (1080, 1920): 7269,
    (1920, 1080): 7317,
    (2304, 2304): 7371,
    (3000, 2000): 7362,
    (300, 2000): 4804,
    (2000, 300): 4941,
    (500, 375): 1737,
    (224, 1000): 2287,
}


@cache
def with_head() -> Any:
    model, processor = tiny_models.family(NAME).build(vision_use_head=True)
    return Made(NAME, tiny_models.load(NAME).folder, model, processor)


def inputs_of(made: Made, *sizes: tuple[int, int]) -> Any:
    return made.inputs([[tiny.picture(*size, seed=size[0]) for size in sizes]])


def geometry(made: Made, size: tuple[int, int]) -> Geometry:
    return LlavaOnevision().geometry(made.model, [size[::-1]])[0]


def seen_of(made: Made, size: tuple[int, int], needs: Needs) -> Seen:
    return herovlm.see(made.model, inputs_of(made, size), needs=needs).seen(needs)[0]


@pytest.mark.parametrize("size", REAL, ids=str)
def test_positions_of_the_real_shape(size: tuple[int, int]) -> None:
    """What the processor of the released models puts into the prompt: it counts by itself, without packing."""
    from transformers import LlavaOnevisionConfig, LlavaOnevisionImageProcessorPil, LlavaOnevisionProcessor

    processor = LlavaOnevisionProcessor.__new__(LlavaOnevisionProcessor)
    processor.image_processor, processor.num_image_tokens = LlavaOnevisionImageProcessorPil(), 729
    processor.vision_aspect_ratio = "anyres_max_9"
    counted = processor._get_number_of_features(*size, 384, 384)
    asked = herovlm.Request.of("full", keep=1.0)
    assert herovlm.token_count(LlavaOnevisionConfig(), size, asked) == counted == REAL[size]


@pytest.mark.parametrize("size", tiny_models.SIZES, ids=str)
def test_kept_rows_are_those_of_the_untouched_model(size: tuple[int, int]) -> None:
    made = tiny_models.load(NAME)
    inputs = inputs_of(made, size)
    (whole,) = made.features(inputs).pooler_output
    first = (inputs["input_ids"][0] == made.image_token_id).nonzero()[0]
    short = herovlm.drop(made.model, inputs, method="uniform", keep=0.4, newlines="touched")
    (columns,) = short.columns
    visual = columns[inputs["input_ids"][0, columns] == made.image_token_id] - first
    assert torch.equal(torch.cat(short["mm_encoder_outputs"]["image"].pooler_output), whole[visual])


@pytest.mark.parametrize("size", SHRUNK, ids=str)
def test_dropping_from_a_shrunk_canvas_is_masking(size: tuple[int, int]) -> None:
    made = tiny_models.load(NAME)
    inputs = inputs_of(made, size)
    short = herovlm.drop(made.model, inputs, method="hero(signal=received)", keep=0.3, positions="original")
    mask = torch.zeros_like(inputs["attention_mask"])
    mask[0, short.columns[0]] = 1
    with torch.no_grad():
        got = made.model(**short).logits[0]
        want, plain = (
            made.model(**{**inputs, "attention_mask": one}, position_ids=torch.arange(mask.shape[1])[None]).logits[0]
            for one in (mask, torch.ones_like(mask))
        )
    torch.testing.assert_close(got, want[short.columns[0]], atol=2e-4, rtol=0)
    assert (got[-1] - plain[-1]).abs().max() > 1e-2


@pytest.mark.parametrize("size", SHRUNK, ids=str)
def test_a_position_of_a_shrunk_canvas_stands_where_the_picture_has_it(size: tuple[int, int]) -> None:
    """Patches say where on the picture they are; what the model's packer makes of that is where the cells are."""
    made = tiny_models.load(NAME)
    layout, whole = geometry(made, size), LlavaOnevision().geometry(unshrunk(made), [size[::-1]])[0]
    y, x = (torch.tensor([float(line) for line in lines]) for lines in (whole.counts.rows, whole.counts.columns))
    high, wide = len(y), len(x)
    (rows, cols), side = whole.grid.tiles, whole.grid.side
    places = torch.stack(torch.meshgrid(torch.arange(rows * side), torch.arange(cols * side), indexing="ij"), -1)
    places = (places - torch.tensor([y[0], x[0]]) + 0.5) / torch.tensor([high, wide])  # of the picture, in 0..1
    tiles = torch.stack([whole.grid.cut(one) for one in places.unbind(-1)], -1)
    tiles = torch.cat([torch.zeros_like(tiles[:1]), tiles])  # (T, N, 2)
    assert layout.mixed is not None
    assert layout.source is not None
    laid = layout.mixed.make(tiles.flatten(0, 1))[layout.source].view(*layout.valid.shape, 2)
    for t, tile in list(enumerate(layout.tiles))[1:]:
        top, left, bottom, right = tile.box
        assert tile.role == "window"
        cells = laid[t].view(side, side, 2)[: tile.rows, : tile.cols]
        for axis, (start, end, count) in enumerate([(top, bottom, tile.rows), (left, right, tile.cols)]):
            middles = start + (torch.arange(count) + 0.5) / count * (end - start)
            want = middles[:, None] if axis == 0 else middles
            torch.testing.assert_close(cells[..., axis], want.expand(cells.shape[:2]), atol=0.02, rtol=0)
        for row, col in ((0, 0), (tile.rows - 1, tile.cols - 1)):  # pictures draw it there
            box = pixels(size, layout.grid, t, row * side + col, counts=layout.counts)
            drawn = torch.tensor([(box.y + box.height / 2) / size[1], (box.x + box.width / 2) / size[0]])
            torch.testing.assert_close(drawn, cells[row, col], atol=0.02, rtol=0)
    assert layout.valid[1:].sum() == sum(tile.rows * tile.cols for tile in layout.tiles[1:])


@pytest.mark.parametrize("size", SHRUNK, ids=str)
def test_signals_are_shrunk_as_features_are(size: tuple[int, int]) -> None:
    made = with_head()
    needs = Needs(received=(1,), probe=True, hidden=True)
    seen = seen_of(made, size, needs)
    grid, full = seen.grid, geometry(made, size)
    inputs = inputs_of(made, size)
    tiles = LlavaOnevision().tiles(made.model, inputs)
    with torch.no_grad():
        tower = made.model.model.vision_tower
        tower.set_attn_implementation("eager")
        maps = tower(tiles, output_attentions=True).attentions[1].sum(2).mean(1)  # (T, N)
        tower.set_attn_implementation("sdpa")
    torch.testing.assert_close(seen.received[1][0], maps[0], atol=1e-5, rtol=0)  # the overview stays as it is
    whole = LlavaOnevision().geometry(unshrunk(made), [size[::-1]])[0]
    canvas = whole.grid.canvas(whole.grid.local(maps))
    top, left = whole.counts.rows, whole.counts.columns
    picture = canvas[top[0] : top[-1] + 1, left[0] : left[-1] + 1]
    rows, columns = len(full.counts.rows), len(full.counts.columns)
    assert (rows, columns) != (len(top), len(left))
    want = interpolate(picture[None, None], (rows, columns), mode="bilinear")[0, 0]
    shrunk = grid.canvas(grid.local(seen.received[1]))[list(full.counts.rows)][:, list(full.counts.columns)]
    torch.testing.assert_close(shrunk, want, atol=1e-5, rtol=0)
    assert seen.probe is not None
    assert seen.probe.shape == (len(seen.valid), 4, seen.valid.shape[1])
    assert (seen.probe * ~seen.valid[:, None]).abs().sum() == 0
    assert seen.hidden is not None
    assert seen.hidden.shape[:2] == seen.valid.shape


def unshrunk(made: Made) -> Any:
    """A stand-in for the model whose canvases may be as large as they like."""
    config = copy.deepcopy(made.model.config)
    config.vision_aspect_ratio = "anyres_max_99"
    return LlavaOnevision().shell(config)


def test_pictures_of_one_prompt_are_not_tiled_and_one_alone_is() -> None:
    made = tiny_models.load(NAME)
    pictures = [[tiny.picture(100, 64), tiny.picture(40, 90)], [], [tiny.picture(100, 64)]]
    inputs = made.inputs(pictures)
    short = herovlm.drop(made.model, inputs, method="hero(signal=received)", keep=0.5)
    assert [seen.grid.tiles for seen in short.seen] == [(0, 0), (0, 0), (2, 3)]
    assert [seen.positions for seen in short.seen] == [17, 17, 107]
    assert [kept.positions for kept in short.kept] == [8, 8, 54]
    whole = herovlm.drop(made.model, inputs, method="random", keep=1.0)
    with torch.no_grad():
        assert torch.equal(made.model(**whole).logits, made.model(**inputs).logits)


def test_without_counts_every_picture_is_tiled() -> None:
    """A flat list of pictures, as pipelines give it: the processor tiles them all, and so does the model."""
    made = tiny_models.load(NAME)
    pictures = [tiny.picture(100, 64), tiny.picture(40, 90)]
    inputs = made.processor(images=pictures, text=[made.chat(2)], return_tensors="pt")
    for given in (dict(inputs), {name: x for name, x in inputs.items() if name != "batch_num_images"}):
        short = herovlm.drop(made.model, given, method="random", keep=0.5)
        assert all(seen.grid.tiles != (0, 0) for seen in short.seen)
        whole = herovlm.drop(made.model, given, method="random", keep=1.0)
        with torch.no_grad():
            assert torch.equal(made.model(**whole).logits, made.model(**given).logits)


@pytest.mark.parametrize("made", [tiny_models.load(NAME), with_head()], ids=["no head", "head"])
def test_hero_is_refused_with_what_to_write(made: Made) -> None:
    ways = ["hero(signal=received)", "hero(signal=probe)"][: 1 + made.model.config.vision_config.vision_use_head]
    told = "write " + " or ".join(f"'{way}'" for way in ways) + ";"
    inputs = inputs_of(made, (100, 64))
    with pytest.raises(herovlm.UnsupportedError) as refused:
        herovlm.drop(made.model, inputs, method="hero", keep=0.3)
    assert told in str(refused.value)
    assert "siglip_vision_model" in str(refused.value)
    for way in ways:
        (kept,) = herovlm.drop(made.model, inputs, method=way, keep=0.3).kept
        assert kept.positions == round(0.3 * 107)
        assert kept.why["saliency"].std() > 0


def test_a_missing_head_is_named() -> None:
    made = tiny_models.load(NAME)
    with pytest.raises(herovlm.UnsupportedError, match=r"no pooling head \(vision_use_head=False\).*needs probe"):
        herovlm.drop(made.model, inputs_of(made, (100, 64)), method="hero(signal=probe)", keep=0.3)


@pytest.mark.parametrize("inside", ["fastv(layer=1)", "pyramiddrop(layers=(1,))"])
def test_methods_inside_the_language_model_go_on_behind_it(inside: str) -> None:
    made = tiny_models.load(NAME)
    inputs = inputs_of(made, (1000, 800))
    with herovlm.dropping(made.model, method=f"hero(signal=received) + {inside}", keep=0.3) as record:
        made.model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert record.last is not None


@pytest.mark.parametrize("method", ["divprune", "todre(signal=received)", "pool", "uniform", "scope(signal=received)"])
@pytest.mark.parametrize("size", [SHRUNK[0], (61, 33)], ids=str)
def test_methods_that_need_no_cls_token_spend_the_budget(method: str, size: tuple[int, int]) -> None:
    made = tiny_models.load(NAME)
    short = herovlm.drop(made.model, inputs_of(made, size), method=method, tokens=20)
    assert [kept.positions for kept in short.kept] == [20]
    assert not (short.kept[0].mask & ~short.seen[0].valid).any()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"vision_feature_select_strategy": "default"}, "leaves the first patch out"),
        ({"vision_aspect_ratio": "anyres_max_2"}, "set it in the model's config"),
        ({"batch_num_images": torch.tensor([2])}, "must count the 1 picture"),
        ({"batch_num_images": torch.tensor([[1]])}, "must count the 1 picture"),
        ({"batch_num_images": "one"}, "batch_num_images must be one tensor"),
        ({"image_sizes": None}, "must count the 0 picture"),
        ({"image_sizes": None, "batch_num_images": None}, "image_sizes are missing"),
        ({"pixel_values": torch.zeros(1, 2, 3, 16, 16)}, "have not the .* tiles"),
        ({"pixel_values": torch.zeros(2, 3, 16, 16)}, "have not the .* tiles"),
        ({"pixel_values_videos": torch.zeros(1, 2, 3, 16, 16)}, "video"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else None,
)
def test_what_would_go_wrong_is_refused(wrong: Any, told: str) -> None:
    made = tiny_models.load(NAME)
    with pytest.raises(herovlm.HeroError, match=told):
        herovlm.drop(made.model, {**inputs_of(made, (100, 64)), **wrong}, method="random", keep=0.5)


def test_pictures_cannot_be_made_smaller() -> None:
    made = tiny_models.load(NAME)
    with pytest.raises(herovlm.UnsupportedError, match="not known for LLaVA-OneVision"):
        herovlm.drop(made.model, inputs_of(made, (100, 64)), method="downsample", keep=0.5)
