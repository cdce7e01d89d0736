"""Mistral 3: pictures at their own resolution in windows, rows closed by text, merged patches."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_models
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoProcessor
from tree import ROOT

import herovlm
from herovlm.families.mistral3 import Mistral3
from herovlm.types import Needs, Seen

EVERY = Needs(received=(0, 2), keys=(1,), hidden=True)
CELL = 8  # pixels on a side of a position
PAGE = (ROOT / "docs/models/mistral3.md").read_text("utf-8")
TABLE = [
    [int(cell.replace(",", "")) for cell in re.findall(r"[\d,]+", row)][:5]
    for row in re.findall(r"^\| \d+ × .*$", PAGE, re.MULTILINE)
]  # height, width, rows, columns, positions
pytestmark = pytest.mark.skipif("mistral3" not in tiny_models.here(), reason="this transformers has no Mistral 3")


@pytest.fixture(scope="module")
def made() -> tiny_models.Made:
    return tiny_models.load("mistral3")


def drawn(*sizes: tuple[int, int]) -> list[Image.Image]:
    return [tiny.picture(*size, seed=i) for i, size in enumerate(sizes)]


def seen_of(made: tiny_models.Made, inputs: Any) -> tuple[Seen, ...]:
    return herovlm.see(made.model, inputs, needs=EVERY).seen(EVERY)


def canvas(seen: Seen, cells: Tensor, rows: int, columns: int) -> Tensor:
    """Lay the windows out as the picture: (rows, columns)."""
    return seen.grid.canvas(cells)[:rows, :columns]


def watched(attention: Any, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Keep the keys that eager attention reads in a block, (1, H, n, C / H), behind their rotation."""
    module, keys = sys.modules[type(attention).__module__], []
    plain = module.eager_attention_forward  # type: ignore[attr-defined]

    def kept(own: Any, query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> Any:
        keys.extend([key] if own is attention else [])
        return plain(own, query, key, *args, **kwargs)

    monkeypatch.setattr(module, "eager_attention_forward", kept)
    return keys


def test_signals_are_those_of_each_picture_alone(made: tiny_models.Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of a batch do not see each other; patches are merged as the model merges them."""
    inputs = made.inputs([drawn((96, 48), (40, 72)), drawn((33, 61))])
    tower, projector = made.model.model.vision_tower, made.model.model.multi_modal_projector
    seen = seen_of(made, inputs)
    assert len(seen) == 3
    for one, pixels, size in zip(seen, inputs["pixel_values"], inputs["image_sizes"], strict=True):
        own = pixels[None, :, : size[0], : size[1]]
        rows, columns = (size // CELL).tolist()
        with torch.no_grad():
            tower.set_attn_implementation("eager")
            keys = watched(tower.transformer.layers[1].attention, monkeypatch)
            maps = tower(own, image_sizes=size[None], output_attentions=True).attentions
            tower.set_attn_implementation("sdpa")
            states = tower(own, image_sizes=size[None]).last_hidden_state[0]
            want = projector(states, size[None])
        close = {"atol": 1e-4, "rtol": 1e-3}
        for block in (0, 2):
            got = maps[block][0].mean(0).sum(0).view(rows, 2, columns, 2).mean((1, 3))
            torch.testing.assert_close(canvas(one, one.received[block], rows, columns), got, **close)
            assert abs(float(one.received[block][one.valid].mean()) - 1) < 1e-4
        own_keys = keys[0][0].transpose(0, 1).flatten(1).view(rows, 2, columns, 2, -1).mean((1, 3))
        got_keys = torch.stack([canvas(one, x, rows, columns) for x in one.keys[1].unbind(-1)], -1)
        torch.testing.assert_close(got_keys, own_keys, **close)
        features = torch.stack([canvas(one, x, rows, columns) for x in one.features.unbind(-1)], -1)
        torch.testing.assert_close(features.flatten(0, 1), want, **close)
        projected = Mistral3().project(made.model, one.hidden[one.valid])
        torch.testing.assert_close(projected, one.features[one.valid], **close)


def test_grouping_is_the_order_of_the_merger(made: tiny_models.Made) -> None:
    """Each patch shows its number; the model's own unfolding says which belong together."""
    tower = Mistral3().sees_through(made.model)
    numbers = torch.arange(4.0 * 6).view(1, 1, 4, 6)
    unfolded = torch.nn.functional.unfold(numbers, 2, stride=2)[0].t()  # (positions, patches)
    with tower.reading(made.model.model.vision_tower, Needs(hidden=True), 3) as found:
        made.model.model.vision_tower(torch.rand(1, 3, 16, 24), image_sizes=torch.tensor([[16, 24]]))
    order = found["groups"][0]
    assert torch.equal(order.view(-1, 4).float(), unfolded)
    assert torch.equal(Mistral3().pooled(made.model, order[None].float(), 1)[0], unfolded.mean(1))


def test_a_known_object_lights_its_positions(made: tiny_models.Made) -> None:
    blank, lit = Image.new("RGB", (96, 64)), Image.new("RGB", (96, 64))
    lit.paste((255, 255, 255), (16, 8, 40, 16))  # row 1, columns 2 to 4 of the positions
    inputs, plain = made.inputs([[lit]]), made.inputs([[blank]])
    there = (inputs["pixel_values"] != plain["pixel_values"])[0].any(0).view(8, CELL, 12, CELL).any(3).any(1)
    (seen,) = seen_of(made, inputs)
    source = Mistral3().layouts(made.model, {"image_sizes": torch.tensor([[64, 96]])})[0].source
    cells = (there.flatten()[source] & seen.valid.flatten()).view(seen.valid.shape)
    assert canvas(seen, cells, 8, 12).nonzero().tolist() == [[1, 2], [1, 3], [1, 4]]


def test_rows_keep_their_break_and_the_picture_its_end(made: tiny_models.Made) -> None:
    inputs = made.inputs([drawn((96, 48))])
    short = herovlm.drop(made.model, inputs, method="random", tokens=2)
    token = made.processor.tokenizer.convert_tokens_to_ids
    for mark, count in (("[IMG_BREAK]", 5), ("[IMG_END]", 1)):
        assert int((short["input_ids"] == token(mark)).sum()) == count
    text = inputs["input_ids"][inputs["input_ids"] != made.image_token_id]
    assert torch.equal(short["input_ids"][short["input_ids"] != made.image_token_id], text)


def test_the_page_says_how_many_positions_pictures_have(made: tiny_models.Made, tmp_path: Path) -> None:
    """The processor scales so, and a config says so without weights."""
    processor = AutoProcessor.from_pretrained(made.folder)
    processor.patch_size, processor.image_processor.size = 14, {"longest_edge": 1540}
    processor.image_processor.patch_size = {"height": 14, "width": 14}
    processor.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(made.folder)
    config.vision_config.image_size, config.vision_config.patch_size = 1540, 14
    config.save_pretrained(tmp_path)
    beside, alone = AutoConfig.from_pretrained(tmp_path), config
    alone.name_or_path = ""
    asked = herovlm.Request.of("full", keep=1.0)
    assert len(TABLE) == 12
    for height, width, rows, columns, positions in TABLE:
        assert positions == rows * columns
        for told in (beside, alone):
            assert herovlm.token_count(told, (height, width), asked) == positions
    for height, width, rows, columns, _ in TABLE[::4]:
        given = processor(images=[Image.new("RGB", (width, height))], text="[IMG]", return_tensors="pt")
        assert (given["image_sizes"] // 28).tolist() == [[rows, columns]]
        assert int((given["input_ids"] == made.image_token_id).sum()) == rows * columns


def test_settings_of_the_processor_beside_the_config_count(made: tiny_models.Made, tmp_path: Path) -> None:
    processor = AutoProcessor.from_pretrained(made.folder)
    processor.image_processor.size = {"longest_edge": 48}
    processor.save_pretrained(tmp_path)
    made.model.config.save_pretrained(tmp_path)
    asked = herovlm.Request.of("full", keep=1.0)
    assert herovlm.token_count(AutoConfig.from_pretrained(tmp_path), (64, 96), asked) == 6 * 4
    assert herovlm.token_count(made.model.config, (64, 96), asked) == 12 * 8


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"method": "hero"}, r"write 'hero\(signal=received\)'"),
        ({"method": "thumbnail"}, "sees a picture without one"),
        ({"method": "downsample"}, "makes pictures smaller, which is not known for Mistral 3"),
        ({"method": "uniform", "narrow": 0.5}, "narrow works in the blocks of transformers' own CLIP"),
    ],
    ids=str,
)
def test_what_it_cannot_do_is_one_clear_error(made: tiny_models.Made, how: Any, match: str) -> None:
    with pytest.raises(herovlm.UnsupportedError, match=match):
        herovlm.drop(made.model, made.inputs([drawn((100, 64))]), **how)


def test_pictures_that_the_untouched_model_fails_on_are_clear_errors(made: tiny_models.Made) -> None:
    with pytest.raises(herovlm.InputsError, match="as narrow as 1 x 500"):
        herovlm.token_count(made.model.config, (1, 500), herovlm.Request.of("full"))
    one = {"pixel_values": torch.zeros(1, 3, 8, 8), "image_sizes": torch.tensor([[8, 8]])}
    ids = torch.tensor([[1, made.image_token_id, 2]])
    with pytest.raises(herovlm.UnsupportedError, match="one position"):
        herovlm.drop(made.model, {"input_ids": ids, **one}, method="random")


def test_wrong_inputs_are_clear_errors(made: tiny_models.Made) -> None:
    inputs = dict(made.inputs([drawn((100, 64), (33, 61))]))
    sizes = inputs["image_sizes"]
    wrong: dict[str, dict[str, Any]] = {
        "image_sizes are missing": {"image_sizes": None},
        "in multiples of 8": {"image_sizes": sizes - 4},
        "within its pixels": {"image_sizes": sizes + 96},
        "one height and": {"image_sizes": sizes[:1]},
        "placeholders": {"image_sizes": torch.full_like(sizes, CELL)},
        "floating": {"pixel_values": inputs["pixel_values"].long()},
    }
    for match, how in wrong.items():
        with pytest.raises(herovlm.InputsError, match=match):
            herovlm.drop(made.model, inputs | how, method="random")


@pytest.mark.parametrize("inside", ["fastv(layer=1)", "pyramiddrop(layers=(1,))"])
def test_inside_methods_work_in_its_language_model(made: tiny_models.Made, inside: str) -> None:
    inputs = made.inputs([drawn((100, 64))])
    with herovlm.dropping(made.model, method=f"random + {inside}", keep=0.5) as record:
        out = made.model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert out.shape[1] == inputs["input_ids"].shape[1] + 3
    assert record.last is not None
