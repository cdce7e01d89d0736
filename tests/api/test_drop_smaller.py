"""downsample: a smaller picture, seen and sent as the untouched model sees and sends one of that size."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
from PIL import Image
from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration
from transformers.image_processing_utils import get_patch_output_size, select_best_resolution

import herovlm
from herovlm import BudgetError, InputsError, UnsupportedError, demo, registry
from herovlm.families import packing
from herovlm.families import smaller as sizes

PROMPT = "USER: <image>\nIs it green? ASSISTANT:"
WHOLE = tiny.picture(32, 32)  # 2 x 2 tiles and no rescaling: its pixels are in the inputs as they are


def smaller(made: tiny.Tiny, inputs: Any, keep: float, **more: Any) -> Any:
    return herovlm.drop(made.model, inputs, method="downsample", keep=keep, processor=made.processor, **more)


def logits(made: tiny.Tiny, given: Any) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = made.model(**given).logits[:, -1]
    return out


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("keep", [0.06, 0.1, 0.2, 0.4, 0.7, 0.9])
def test_no_budget_is_exceeded_and_what_was_sent_is_recorded(models: Any, family: str, keep: float) -> None:
    made = models(family)
    pictures = [[tiny.picture(60, 31), tiny.picture(32, 32)], [tiny.picture(20, 60)]]
    inputs = made.inputs(pictures, ["USER: <image> and <image>\nHi? ASSISTANT:", PROMPT])
    short = smaller(made, inputs, keep)
    whole = herovlm.drop(made.model, inputs, method="full")
    assert [s.positions for s in short.seen] == [s.positions for s in whole.seen]
    for seen, kept in zip(short.seen, short.kept, strict=True):
        assert 1 <= kept.positions <= max(1, round(keep * seen.positions))
    sent = (short["input_ids"] == made.model.config.image_token_id).sum(1).tolist()
    counts = [kept.positions for kept in short.kept]
    assert sent == [counts[0] + counts[1], counts[2]]
    assert short.origin.column[short["attention_mask"] == 1].min() >= 0
    text = inputs["attention_mask"].bool() & (inputs["input_ids"] != made.model.config.image_token_id)
    for columns, own in zip(short.columns, text, strict=True):
        assert set(own.nonzero().flatten().tolist()) <= set(columns.tolist()), "no word of the prompt is lost"
        assert len(set(columns.tolist())) == len(columns), "a column stands for one position"
    out = made.model.generate(**short, max_new_tokens=3, do_sample=False)
    assert out.shape[1] == short["input_ids"].shape[1] + 3


@pytest.mark.parametrize("keep", [0.42, 0.55])
def test_fewer_tiles_are_those_of_the_shrunk_picture(models: Any, keep: float) -> None:
    made = models("llava_next")
    short = smaller(made, made.inputs([[WHOLE]], [PROMPT]), keep)
    assert short.seen[0].grid.tiles == (1, 2)
    shrunk = WHOLE.resize((16, 16), Image.Resampling.BICUBIC)
    inputs = made.inputs([[shrunk]], [PROMPT])
    assert inputs["input_ids"].tolist() == short["input_ids"].tolist()
    torch.testing.assert_close(logits(made, short), logits(made, inputs), atol=1e-5, rtol=0)
    assert (logits(made, short) - logits(made, made.inputs([[WHOLE]], [PROMPT]))).abs().max() > 1e-2


@pytest.mark.parametrize(("keep", "side", "tiles"), [(0.8, 3, (2, 2)), (0.6, 3, (2, 2)), (0.3, 3, (1, 2))])
def test_smaller_tiles_are_those_of_transformers(models: Any, keep: float, side: int, tiles: tuple[int, int]) -> None:
    made = models("llava_next")
    short = smaller(made, made.inputs([[WHOLE]], [PROMPT]), keep)
    assert (short.seen[0].grid.side, short.seen[0].grid.tiles) == (side, tiles)
    pixels, model = side * tiny.PATCH, copy.deepcopy(made.model)
    pinpoints = [[extent // tiny.TILE * pixels for extent in canvas] for canvas in tiny.PINPOINTS]
    model.config.vision_config.image_size, model.config.image_grid_pinpoints = pixels, pinpoints
    square = {"height": pixels, "width": pixels}
    images = type(made.processor.image_processor)(size=square, crop_size=square, image_grid_pinpoints=pinpoints)
    shrunk = WHOLE.resize((min(tiles) * pixels, min(tiles) * pixels), Image.Resampling.BICUBIC)
    with torch.no_grad():
        given = images(images=shrunk, return_tensors="pt")
        (want,) = model.get_image_features(**given, interpolate_pos_encoding=True, return_dict=True).pooler_output
    (got,) = short["mm_encoder_outputs"]["image"].pooler_output
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


def test_images_of_one_prompt_are_as_each_alone(models: Any) -> None:
    made = models("llava_next")
    pictures, keeps = [tiny.picture(60, 31), WHOLE, tiny.picture(20, 60), WHOLE], [0.3, 0.6, 0.99999, 0.6]
    tower, runs = made.model.model.vision_tower, []
    handle = tower.register_forward_hook(lambda _module, args, _output: runs.append(args))
    try:
        together = smaller(made, made.inputs([pictures], ["USER: <image><image><image><image>\nHi?"]), keeps)
    finally:
        handle.remove()
    sides = {seen.grid.side for seen in together.seen if seen.resized}
    assert len(sides) > 1
    assert len(runs) == 1 + len(sides), "once a side, and once for what fits"
    for picture, keep, seen in zip(pictures, keeps, together.seen, strict=True):
        (alone,) = smaller(made, made.inputs([[picture]], [PROMPT]), keep).seen
        assert torch.equal(alone.valid, seen.valid)
        torch.testing.assert_close(alone.features, seen.features, atol=1e-4, rtol=1e-4)
    herovlm.show(together, pictures)


def test_the_colours_of_a_picture_three_pixels_high_are_not_its_rows(models: Any) -> None:
    made, seen = models("llava_next"), []
    inputs = made.inputs([[Image.new("RGB", (60, 7), (200, 30, 90))]], [PROMPT])
    handle = made.model.model.vision_tower.register_forward_hook(lambda _module, args, _output: seen.append(args[0]))
    try:
        for tokens in range(4, 20):
            herovlm.drop(made.model, inputs, method="downsample", tokens=tokens, processor=made.processor)
    finally:
        handle.remove()
    for tiles in seen:
        colours = inputs["pixel_values"][0, 0, :, 0, 0]
        torch.testing.assert_close(tiles[0], colours[:, None, None].expand(tiles[0].shape), atol=0.05, rtol=0)


def empty(config: LlavaNextConfig) -> Any:
    """Make a model without weights: enough to count."""
    with torch.device("meta"):
        return LlavaNextForConditionalGeneration(config)


def llava_next_7b() -> Any:
    """Make what counts of LLaVA-NeXT-7B: its canvases and its tiles of 24 x 24 patches."""
    vision = {**tiny.VISION, "image_size": 336, "patch_size": 14, "num_hidden_layers": 1}
    return empty(LlavaNextConfig(vision_config=vision, text_config=tiny.text_config("llama", 99, 1)))


SIZES = [(1000, 1000), (192, 192), (640, 480), (300, 900), (1080, 1920), (200, 2000), (384, 384), (288, 384), (31, 60)]


def shares(model: Any, size: tuple[int, int], keep: float) -> float:
    """Return the share of the budget that is sent of a picture of a size (height, width)."""
    family = registry.family(model)
    pinpoints = model.config.image_grid_pinpoints
    (whole,) = family.layouts(model, {"pixel_values": torch.empty(1, 10, 3, 1, 1), "image_sizes": [size]})
    fitted = get_patch_output_size(torch.empty(3, *size), select_best_resolution(size, pinpoints), "channels_first")
    budget = round(keep * whole.positions)
    best = sizes.largest(family, model, fitted, len(whole.valid), budget)
    if best.size is None:
        made = packing.alone(best.side, newline=True)
    else:
        network = family.with_tiles(model, best.side)
        given = {"pixel_values": torch.empty(1, 10, 3, 1, 1), "image_sizes": [best.size]}
        (made,) = family.layouts(network, given)
    assert made.positions == best.positions, "it is counted as it is packed"
    assert best.positions <= budget
    assert best.tiles == len(made.valid) <= len(whole.valid)
    return float(best.positions / budget)


@pytest.mark.parametrize("keep", [0.9, 0.7, 0.4, 0.2, 0.1])
def test_the_budget_is_nearly_spent_on_llava_next_7b(keep: float) -> None:
    model = llava_next_7b()
    spent = {size: shares(model, size, keep) for size in SIZES}
    assert min(spent.values()) > 0.85, spent


@pytest.mark.parametrize("keep", [0.7, 0.4, 0.2, 0.1])
def test_the_budget_is_mostly_spent_on_the_demo(keep: float) -> None:
    model = empty(LlavaNextConfig.from_pretrained(demo.WEIGHTS))  # 8 patches a side: sizes are few
    spent = {size: shares(model, size, keep) for size in SIZES}
    assert min(spent.values()) > 0.7, spent
    assert sum(spent.values()) > 0.85 * len(spent), spent


def test_one_tile_alone_is_the_thumbnail(models: Any) -> None:
    made = models("llava_next")
    inputs = made.inputs([[WHOLE]], [PROMPT])
    short, whole = smaller(made, inputs, 0.2), herovlm.drop(made.model, inputs, method="full")
    assert short.kept[0].positions == 17  # 4 x 4 patches and the newline that the model's packer puts behind one tile
    torch.testing.assert_close(short.seen[0].features[0], whole.seen[0].features[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("keep", "side"), [(0.9, 3), (0.56, 3), (0.5, 2), (0.25, 2), (0.2, 1)])
def test_a_smaller_tile_is_seen_as_transformers_sees_it(models: Any, keep: float, side: int) -> None:
    made = models("llava")
    inputs = made.inputs([[tiny.picture(16, 16)]], [PROMPT])
    short = smaller(made, inputs, keep)
    assert (short.seen[0].grid.side, short.kept[0].positions) == (side, side**2)
    picture = tiny.picture(16, 16).resize((4 * side, 4 * side), Image.Resampling.BICUBIC)
    pixels = made.processor.image_processor(images=picture, do_resize=False, do_center_crop=False, return_tensors="pt")
    with torch.no_grad():
        want = made.model.get_image_features(**pixels, interpolate_pos_encoding=True, return_dict=True).pooler_output
    torch.testing.assert_close(short.seen[0].features, want[0][None], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_what_fits_is_left_as_it_is(models: Any, family: str) -> None:
    made = models(family)
    inputs = made.inputs([[tiny.picture(60, 31)], [WHOLE]], [PROMPT, PROMPT])
    torch.testing.assert_close(logits(made, smaller(made, inputs, 0.999)), logits(made, inputs), atol=1e-5, rtol=0)


def test_too_small_a_budget_is_told_the_smallest_picture(models: Any) -> None:
    made = models("llava_next")
    with pytest.raises(BudgetError, match="smallest picture sends, 2"):
        smaller(made, made.inputs([[WHOLE]], [PROMPT]), 0.01)


def test_what_a_smaller_picture_cannot_have_is_refused(models: Callable[..., Any]) -> None:
    made = models("llava_next")
    inputs = made.inputs([[WHOLE]], [PROMPT])
    with pytest.raises(UnsupportedError, match="positions='compact'"):
        smaller(made, inputs, 0.2, positions="original")
    with pytest.raises(UnsupportedError, match="give a share"):
        herovlm.drop(made.model, inputs, method="downsample", keep="auto", processor=made.processor)
    with pytest.raises(InputsError, match="pass processor="):
        herovlm.drop(made.model, inputs, method="downsample", keep=0.2)


@pytest.mark.parametrize("keep", [0.9, 0.6, 0.3, 0.25])
def test_tiles_stay_large_where_that_is_preferred(models: Any, keep: float) -> None:
    made = models("llava_next")
    inputs = made.inputs([[WHOLE]], [PROMPT])
    most, large = (
        herovlm.drop(made.model, inputs, method=f"downsample(prefer={prefer!r})", keep=keep, processor=made.processor)
        for prefer in ("positions", "tiles")
    )
    budget = round(keep * herovlm.drop(made.model, inputs, method="full").kept[0].positions)
    assert large.kept[0].positions <= most.kept[0].positions <= budget
    assert large.seen[0].grid.side == 4 >= most.seen[0].grid.side, "tiles of the tower's own side fit this budget"
    config = made.model.config
    request = herovlm.Request.of("downsample(prefer='tiles')", keep)
    assert herovlm.token_count(config, (WHOLE.height, WHOLE.width), request) == large.kept[0].positions
