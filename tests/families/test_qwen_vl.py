"""Qwen-VL: windows over a picture that is read row by row, numbers of the untouched prompt, features beside."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_models
import torch
from devices import TwoDevices
from PIL import Image
from transformers import AutoConfig, AutoProcessor, Qwen2VLImageProcessorPil

import herovlm
from herovlm import registry
from herovlm.families.packing import native
from herovlm.types import Needs, Short
from herovlm.viz.geometry import pixels

HERE = [name for name in registry.FAMILIES if name.startswith("qwen") and name in tiny_models.here()]
pytestmark = pytest.mark.parametrize("name", HERE)
SIZES = [[(100, 64), (64, 64)], [(33, 61)], []]
TOKENS = ("input_ids", "attention_mask", "mm_token_type_ids")
NEW = {"max_new_tokens": 10, "do_sample": False}


def batch(name: str, sizes: Any = SIZES, side: str = "left") -> Any:
    return tiny_models.load(name).inputs(
        [[tiny.picture(*size, seed=size[0]) for size in some] for some in sizes], None, side
    )


def drop(name: str, inputs: Any, method: str = "random", **how: Any) -> Short:
    return herovlm.drop(tiny_models.load(name).model, inputs, method=method, **({"keep": 0.3} | how))


def numbers(name: str, inputs: Any) -> torch.Tensor:
    found: torch.Tensor = tiny_models.family(name).positions(tiny_models.load(name).model, inputs)
    return found


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("keep", [0.3, 1.0])
def test_kept_columns_have_the_numbers_of_the_untouched_prompt(name: str, keep: float, side: str) -> None:
    inputs = batch(name, side=side)
    short, want = drop(name, inputs, keep=keep), numbers(name, inputs)
    assert short["position_ids"].shape == (3, *short["input_ids"].shape)
    for row, columns in enumerate(short.columns):
        real = short["attention_mask"][row] != 0
        assert torch.equal(short["position_ids"][:, row, real], want[:, row, columns])
        assert torch.equal(short["mm_token_type_ids"][row, real], inputs["mm_token_type_ids"][row, columns])


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=str)
def test_answers_go_on_from_the_numbers_of_the_untouched_prompt(name: str, options: Any) -> None:
    """The reference is the untouched model on the short prompt's embeddings and numbers, put together by hand."""
    model, inputs = tiny_models.load(name).model, batch(name, SIZES[1:2])
    short = drop(name, inputs)
    got = model.generate(**short, **NEW, **options)[:, short["input_ids"].shape[1] :]
    if tiny_models.family(name).__dict__.get("MASKING", True):
        mask = torch.zeros_like(inputs["attention_mask"])
        mask[0, short.columns[0]] = 1
        masked = {**inputs, "attention_mask": mask, "position_ids": numbers(name, inputs)}
        assert torch.equal(got, model.generate(**masked, **NEW, **options)[:, mask.shape[1] :])
    if options or "qwen3_vl" in name:  # what is added behind the first layers is no part of the embeddings
        return
    embeds = model.get_input_embeddings()(short["input_ids"])
    features = short["mm_encoder_outputs"]["image"].pooler_output[0]
    embeds[short["input_ids"] == model.config.image_token_id] = features
    tokens, ids = [], short["position_ids"]
    for _ in range(NEW["max_new_tokens"]):  # without a cache
        with torch.no_grad():
            states = model.model.language_model(inputs_embeds=embeds, position_ids=ids, use_cache=False)
            tokens.append(int(model.lm_head(states.last_hidden_state[:, -1]).argmax()))
        embeds = torch.cat([embeds, model.get_input_embeddings()(torch.tensor([[tokens[-1]]]))], 1)
        ids = torch.cat([ids, ids.amax((0, 2), keepdim=True).expand(3, 1, 1) + 1], -1)
    assert got[0].tolist() == tokens[: len(got[0])]


def test_linear_layers_see_what_embeddings_built_by_hand_show(name: str) -> None:
    """The exact statement where masking is none: the short prompt is its embeddings, whatever the layers are."""
    model, inputs = tiny_models.load(name).model, batch(name)
    short = drop(name, inputs)
    embeds = model.get_input_embeddings()(short["input_ids"]).detach()
    places = short["input_ids"] == model.config.image_token_id
    with torch.no_grad():
        plain = tiny_models.load(name).features(inputs)
        kept = (torch.cat(list(short.columns)), short["attention_mask"].nonzero()[:, 0])
        whole = torch.zeros(inputs["input_ids"].shape, dtype=torch.long)
        image = inputs["input_ids"] == model.config.image_token_id
        whole[image] = torch.arange(int(image.sum()))
        rows = whole[kept[1], kept[0]][image[kept[1], kept[0]]]
        embeds[places] = torch.cat(list(plain.pooler_output))[rows]
        more: dict[str, Any] = {}
        if "qwen3_vl" in name:
            layers = [torch.cat(list(layer))[rows] for layer in plain.deepstack_features]
            more = {"visual_pos_masks": places, "deepstack_visual_embeds": layers}
        given = {"attention_mask": short["attention_mask"], "position_ids": short["position_ids"]}
        want = model.lm_head(model.model.language_model(inputs_embeds=embeds, **given, **more).last_hidden_state)
        got = model(**short).logits
    real = short["attention_mask"] != 0
    torch.testing.assert_close(got[real], want[real], atol=1e-5, rtol=0)
    assert (got - model(**drop(name, inputs, "random(seed=5)")).logits)[:2, -1].abs().max() > 1e-2


def test_features_of_the_first_layers_are_dropped_alike(name: str) -> None:
    inputs = batch(name)
    short, plain = drop(name, inputs), tiny_models.load(name).features(inputs)
    output, layers = short["mm_encoder_outputs"]["image"], getattr(plain, "deepstack_features", None)
    if layers is None:
        assert getattr(output, "deepstack_features", None) is None
        return
    assert len(output.deepstack_features) == len(layers) == 2
    column = (inputs["input_ids"] == tiny_models.load(name).image_token_id).nonzero().tolist()
    left = [row for row, (prompt, at) in enumerate(column) if at in short.columns[prompt].tolist()]
    for got, want in zip(output.deepstack_features, layers, strict=True):
        assert [len(part) for part in got] == [len(part) for part in output.pooler_output]
        assert torch.equal(torch.cat(got), torch.cat(list(want))[left])


def test_states_are_what_the_merger_reads(name: str) -> None:
    made, inputs = tiny_models.load(name), batch(name)
    (first, second, third) = herovlm.see(made.model, inputs, needs=Needs(hidden=True)).seen(Needs(hidden=True))
    assert first.grid.side > 1
    for seen in (first, second, third):
        states = seen.hidden[seen.valid]
        assert states.shape[1] == 4 * made.model.config.vision_config.hidden_size
        got = registry.family(made.model).project(made.model, states)
        torch.testing.assert_close(got, seen.features[seen.valid], atol=1e-5, rtol=1e-5)


def test_a_window_shows_its_part_of_the_picture(name: str) -> None:
    """What is painted at one place changes the patches of that place, and of no other."""
    made = tiny_models.load(name)
    plain = tiny.picture(104, 72)
    cell = 2 * made.model.config.vision_config.patch_size
    family = registry.family(made.model)
    (told,) = family.geometry(family.shell(made.model.config), [(72, 104)])
    (rows, cols), side = told.grid.tiles, told.grid.side
    assert rows * cols > 1
    for row, col in [(0, 0), (3, 7), (8, 12), (8, 0), (4, 5)]:
        painted = plain.copy()
        painted.paste(Image.new("RGB", (cell, cell), "red"), (col * cell, row * cell))
        a, b = (made.inputs([[one]])["pixel_values"] for one in (plain, painted))
        positions = (a != b).any(1).view(-1, 4).all(1).nonzero().flatten().tolist()
        cells = (told.valid.flatten() & (told.source == positions[0])).nonzero().flatten().tolist()
        assert len(positions) == len(cells) == 1
        tile, patch = divmod(cells[0], side * side)
        assert divmod(tile, cols) == (row // side, col // side)
        assert divmod(patch, side) == (row % side, col % side)
        top, left, bottom, right = told.tiles[tile].box
        assert top * 9 <= row < bottom * 9
        assert left * 13 <= col < right * 13
        assert told.tiles[tile].role == "window"
        drawn = pixels(plain.size, told.grid, tile, patch, counts=told.counts)
        assert (drawn.x, drawn.y, drawn.width, drawn.height) == (col * cell, row * cell, cell, cell)


def test_how_many_windows_is_for_the_user_to_say(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = batch(name)
    several = drop(name, inputs, keep=0.5)
    assert all(len(seen.valid) > 1 for seen in several.seen)
    monkeypatch.setattr(tiny_models.load(name).model.config, "herovlm_windows", 1, raising=False)
    one = drop(name, inputs, keep=0.5)
    assert [len(seen.valid) for seen in one.seen] == [1, 1, 1]
    assert not any(seen.grid.overview for seen in one.seen)
    assert [seen.positions for seen in one.seen] == [seen.positions for seen in several.seen]
    assert torch.equal(drop(name, inputs, keep=1.0)["input_ids"], inputs["input_ids"])


def test_common_pictures_have_a_handful_of_windows(name: str) -> None:
    """A model of real size, of which the config alone is needed."""
    config = type(tiny_models.load(name).model.config)()
    family = registry.family(type("Shell", (), {"config": config})())
    sizes = [(1024, 768), (768, 1024), (1080, 1920), (672, 672), (448, 448), (224, 896)]
    for told in family.geometry(family.shell(config), sizes):
        assert 4 <= len(told.valid) <= 16
        assert told.valid.any(1).all()


def test_fewest_and_most_pixels_are_those_of_the_processor_beside_the_config(name: str, tmp_path: Path) -> None:
    made = tiny_models.load(name)
    folder = tmp_path / "model"
    shutil.copytree(made.folder, folder)
    processor = AutoProcessor.from_pretrained(folder)
    cell = (2 * made.model.config.vision_config.patch_size) ** 2
    processor.image_processor.size = {"shortest_edge": 30 * cell, "longest_edge": 40 * cell}
    processor.save_pretrained(folder)
    config, asked = AutoConfig.from_pretrained(folder), herovlm.Request.of("full", keep=1.0)
    for size in tiny_models.SIZES:
        inputs = AutoProcessor.from_pretrained(folder)(
            images=tiny.picture(*size), text=made.chat(1), return_tensors="pt"
        )
        assert herovlm.token_count(config, size[::-1], asked) == made.count(inputs)[0]
        assert 20 <= made.count(inputs)[0] <= 48


def test_what_cannot_be_is_refused_with_what_to_do(name: str) -> None:
    model, inputs = tiny_models.load(name).model, batch(name)
    grids = inputs["image_grid_thw"]
    shown = (inputs["input_ids"] == model.config.image_token_id).int()
    joined = inputs["input_ids"].gather(
        1, shown.argsort(dim=1, descending=True, stable=True)
    )  # no text between pictures
    first = int((inputs["input_ids"][0] == model.config.image_token_id).nonzero()[95]) + 1
    one = {"pixel_values": inputs["pixel_values"][: 96 * 4], "image_grid_thw": grids[:1]}
    wrong: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"positions": "compact"}, {}, "M-RoPE.*use positions='original'"),
        ({"method": "hero"}, {}, r"write 'hero\(signal=received\)'"),
        ({"method": "downsample"}, {}, "give its processor a smaller picture"),
        ({"narrow": 0.5}, {}, "CLIP"),
        ({}, {"pixel_values_videos": inputs["pixel_values"]}, "video"),
        ({}, {name: inputs[name][:1, :first] for name in TOKENS} | one, "ends in a picture"),
        ({}, {"mm_token_type_ids": None}, "mm_token_type_ids are missing"),
        ({}, {"image_grid_thw": None}, "image_grid_thw is missing"),
        ({}, {"image_grid_thw": grids.float()}, "whole numbers"),
        ({}, {"image_grid_thw": grids * torch.tensor([2, 1, 1])}, "patches of|one time"),
        ({}, {"image_grid_thw": grids + torch.tensor([0, 1, 0])}, "multiples of 2"),
        ({}, {"image_grid_thw": grids[:2]}, "not what image_grid_thw tells"),
        ({}, {"pixel_values": inputs["pixel_values"][:, 1:]}, "patches of 96 numbers"),
        ({}, {"image_grid_thw": grids.flip(0)}, "placeholders|spread|order"),
        ({}, {"input_ids": joined}, r"hold \d run.* with text between two"),
    ]
    for how, more, match in wrong:
        with pytest.raises(herovlm.HeroError, match=match):
            drop(name, {**inputs, **more}, **how)
    with pytest.raises(herovlm.InputsError, match="takes no such picture"):
        herovlm.token_count(model.config, (1, 500), herovlm.Request.of("full"))


@pytest.mark.parametrize("shape", [(7, 5, 3), (8, 8, 4), (1, 9, 2), (3, 2, 5)])
def test_windows_are_read_row_by_row(name: str, shape: tuple[int, int, int]) -> None:
    rows, cols, side = shape
    told = native(rows, cols, side)
    assert told.positions == rows * cols == told.encoded
    sent = told.grid.order[told.on_sent]
    assert told.source[sent].tolist() == list(range(rows * cols))
    assert sum(tile.rows * tile.cols for tile in told.tiles) == rows * cols
    assert told.valid[:, 0].all(), "what a window lacks is at its right and bottom"


def test_the_page_tells_what_the_processor_makes(name: str, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/models/qwen_vl.md").read_text("utf-8")
    family = registry.family(tiny_models.load(name).model)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    (numbers,) = [line[1:] for line in lines if line[0] == family.name] or [None]
    if numbers is None:
        return
    extents = re.search(r"scaled to ([\d,]+) to ([\d,]+) pixels in the first row and ([\d,]+) to ([\d,]+)", page)
    assert extents is not None
    fewest, most = (int(one.replace(",", "")) for one in extents.groups()[2 * (family.name == "Qwen3-VL") :][:2])
    config = type(tiny_models.load(name).model.config)()
    size = {"shortest_edge": fewest, "longest_edge": most}
    processor = Qwen2VLImageProcessorPil(patch_size=config.vision_config.patch_size, size=size)
    processor.save_pretrained(tmp_path)
    config.name_or_path = str(tmp_path)
    for picture, told in zip(lines[0][1:], numbers, strict=True):
        wide, high = map(int, picture.split(" x "))
        (found,) = family.geometry(family.shell(config), [(high, wide)])
        rows, cols = found.grid.tiles
        assert f"{processor.get_number_of_image_patches(high, wide) // 4:,} ({rows} x {cols})" == told


def test_the_host_and_the_device_do_not_meet(name: str) -> None:
    model, inputs = tiny_models.load(name).model, dict(batch(name))
    with torch.no_grad(), TwoDevices():
        for method in ("random", "hero(signal=received)", "divprune"):
            assert model(**drop(name, inputs, method)).logits.isfinite().all()
