"""drop(): options, records, and everything that is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import tiny
import torch
from transformers import AutoModelForImageTextToText, DynamicCache

import herovlm
from herovlm import BudgetError, InputsError, MethodError, ModelError, UnsupportedError, UsageError
from herovlm.methods.base import Method
from herovlm.seams.compat import CACHES
from herovlm.types import Kept, Needs, Newlines, Seen


@pytest.fixture
def small(models: Any) -> tiny.Tiny:
    return models("llava_next")


@pytest.fixture
def inputs(small: tiny.Tiny) -> Any:
    pictures = [[tiny.picture(60, 31)], [tiny.picture(20, 60)]]
    return small.inputs(pictures, ["USER: <image>\nHi? ASSISTANT:", "USER: see this <image>\nIs it green? ASSISTANT:"])


@contextmanager
def set_to(thing: Any, **values: Any) -> Iterator[None]:
    """Set attributes for a while."""
    before = {name: getattr(thing, name) for name in values}
    try:
        for name, value in values.items():
            setattr(thing, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(thing, name, value)


@pytest.mark.parametrize(
    "asked",
    [
        *({"keep": keep} for keep in (0.05, 0.2, 0.77, [0.9, 0.1], (1.0, 0.3), np.float32(0.5), np.array([0.2, 0.4]))),
        *({"tokens": tokens} for tokens in (1, 2, 20, 10_000, [10_000, 3], (7, 8), np.int64(5), torch.tensor([3, 9]))),
    ],
    ids=str,
)
def test_hero_spends_the_budget(small: tiny.Tiny, inputs: Any, asked: Any) -> None:
    short = herovlm.drop(small.model, inputs, **asked, processor=small.processor)
    ((name, value),) = asked.items()
    each = value if np.ndim(value) else [value, value]
    for seen, kept, one in zip(short.seen, short.kept, each, strict=True):
        want = min(one, seen.positions) if name == "tokens" else max(1, round(one * seen.positions))
        assert kept.positions == want
    removed = [s.positions - k.positions for s, k in zip(short.seen, short.kept, strict=True)]
    lengths = inputs["attention_mask"].sum(1) - short["attention_mask"].sum(1)
    assert lengths.tolist() == removed


def test_each_image_is_kept_as_if_it_were_alone(small: tiny.Tiny, inputs: Any) -> None:
    """A query picture keeps all, an example little: each image as with that share for all."""
    how = {"method": "random", "processor": small.processor}
    mixed = herovlm.drop(small.model, inputs, keep=[1.0, 0.1], **how).kept
    for image, keep in enumerate((1.0, 0.1)):
        alike = herovlm.drop(small.model, inputs, keep=keep, **how).kept[image]
        assert torch.equal(mixed[image].mask, alike.mask)
        assert torch.equal(mixed[image].newlines, alike.newlines)


@pytest.mark.parametrize("asked", [{"keep": 1.0}, {"keep": [1.0, 1.0]}, {"tokens": 10_000}, {"tokens": [10_000, 999]}])
def test_keeping_all_is_the_untouched_prompt(small: tiny.Tiny, inputs: Any, asked: Any) -> None:
    short = herovlm.drop(small.model, inputs, **asked, processor=small.processor)
    assert torch.equal(short["input_ids"], inputs["input_ids"])
    want = small.model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert torch.equal(small.model.generate(**short, max_new_tokens=4, do_sample=False), want)


def test_a_length_that_does_not_fit_is_told_before_the_tower_runs(small: tiny.Tiny, inputs: Any) -> None:
    runs: list[int] = []
    handle = small.model.model.vision_tower.register_forward_hook(lambda *_: runs.append(1))
    try:
        with pytest.raises(BudgetError, match="has 3 values for 2 images"):
            herovlm.drop(small.model, inputs, keep=[0.5, 0.5, 0.5])
    finally:
        handle.remove()
    assert not runs


def test_a_list_for_a_prompt_without_pictures_is_an_error(small: tiny.Tiny) -> None:
    words = small.processor(text=["USER: Hi? ASSISTANT:"], return_tensors="pt")
    assert herovlm.drop(small.model, words, keep=0.5).kept == ()
    with pytest.raises(BudgetError, match="has 1 value for 0 images"):
        herovlm.drop(small.model, words, keep=[0.5])


def test_a_method_object_will_do(small: tiny.Tiny, inputs: Any) -> None:
    short = herovlm.drop(small.model, inputs, method=tiny.Some(), keep=0.3)
    assert [k.positions for k in short.kept] == [max(1, round(0.3 * s.positions)) for s in short.seen]


def test_only_what_is_needed_is_recorded(small: tiny.Tiny, inputs: Any) -> None:
    nothing = herovlm.drop(small.model, inputs, method="random").seen[0]
    assert (nothing.attention, nothing.cls, nothing.relevance) == ({}, None, None)
    assert nothing.depth == 4
    some = herovlm.drop(small.model, inputs, method="hero(alpha=1, low_layers=(1,), high_layers=(-1,))").seen[0]
    assert sorted(some.attention) == [1, 3]
    assert some.cls is not None
    assert some.relevance is None
    assert herovlm.drop(small.model, inputs, method="hero", keep=1.0).seen[0].attention == {}


@torch.no_grad()
def test_the_record_holds_what_the_tower_saw(small: tiny.Tiny, inputs: Any) -> None:
    short = herovlm.drop(small.model, inputs, processor=small.processor)
    for i, seen in enumerate(short.seen):
        pixels = inputs["pixel_values"][i][: len(seen.valid)]
        states = small.model.model.vision_tower(pixels, output_hidden_states=True)
        torch.testing.assert_close(seen.cls, states.last_hidden_state[:, 0], atol=1e-4, rtol=1e-4)
        projected = small.model.model.multi_modal_projector(states.hidden_states[-2][:, 1:])
        torch.testing.assert_close(seen.features, projected * seen.valid[..., None], atol=1e-4, rtol=1e-4)


@dataclass(frozen=True, kw_only=True)
class Merging(Method):
    """Keeps every other thumbnail patch, its feature replaced by a count."""

    name: ClassVar[str] = "merging"
    paper: ClassVar[str] = "baseline"
    fidelity: ClassVar[str] = "baseline"
    stray: bool = False

    def needs(self, depth: int) -> Needs:
        """Ask for nothing."""
        return Needs()

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Ignore the budget; `stray` keeps a patch of padding and a newline that is not sent."""
        mask = torch.zeros_like(seen.valid)
        mask[0, ::2] = True
        mask[-1, :2] = True
        rows = torch.zeros_like(seen.grid.sent)
        rows[:2] = True
        if self.stray:
            mask |= ~seen.valid
        count = int(mask.sum())
        assert seen.features is not None
        return Kept(mask, rows, torch.arange(count).float()[:, None].expand(-1, seen.features.shape[-1]))


def test_merged_features_go_where_the_mask_says(small: tiny.Tiny) -> None:
    inputs = small.inputs([[tiny.picture(32, 32)]], ["USER: <image>\nHi? ASSISTANT:"])
    short = herovlm.drop(small.model, inputs, method=Merging(), keep=0.3)
    features = short["mm_encoder_outputs"]["image"].pooler_output[0]
    newline = small.model.model.image_newline
    # thumbnail patches 0..7 of the mask, then two empty canvas rows, then patches 8, 9 in the last tile
    counts = torch.arange(10.0)[:, None].expand(-1, 32)
    assert torch.equal(features, torch.cat([counts[:8], newline.expand(2, -1), counts[8:]]))


def test_padding_is_never_kept(small: tiny.Tiny, inputs: Any) -> None:
    with pytest.raises(MethodError, match="padding"):
        herovlm.drop(small.model, inputs, method=Merging(stray=True), keep=0.3)


def test_newlines_of_the_canvas_stand_where_its_rows_end(small: tiny.Tiny) -> None:
    """The authors' variant closes every row of the padded canvas, also rows that the model does not send."""
    inputs = small.inputs([[tiny.picture(64, 40)]], ["USER: <image>\nHi? ASSISTANT:"])
    how = {"method": "hero(variant='official')", "keep": 0.3, "processor": small.processor}
    short = herovlm.drop(small.model, inputs, **how)
    seen, kept = short.seen[0], short.kept[0]
    assert kept.newlines.all()
    assert not seen.grid.sent.all()
    features = short["mm_encoder_outputs"]["image"].pooler_output[0]
    assert seen.features is not None
    rows = [
        small.model.model.image_newline if slot < 0 else seen.features.flatten(0, 1)[slot]
        for slot in seen.grid.order.tolist()
        if slot < 0 or kept.mask.flatten()[slot]
    ]
    assert torch.equal(features, torch.stack(rows))
    assert int((short["input_ids"] == small.model.config.image_token_id).sum()) == len(rows)
    small.model.generate(**short, max_new_tokens=2)
    with pytest.raises(UnsupportedError, match="padded canvas"):
        herovlm.drop(small.model, inputs, **how, positions="original")


def test_more_newlines_than_the_prompt_had_placeholders(small: tiny.Tiny) -> None:
    inputs = small.inputs([[tiny.picture(64, 3)]], ["USER: <image>\nHi? ASSISTANT:"])
    short = herovlm.drop(small.model, inputs, method="hero(variant='official')", keep=0.99, question="Hi?")
    assert int((short["input_ids"] == small.model.config.image_token_id).sum()) == short.kept[0].positions
    assert short["input_ids"][0, -4:].tolist() == inputs["input_ids"][0, -4:].tolist()
    small.model.generate(**short, max_new_tokens=2)


def test_original_positions(small: tiny.Tiny, inputs: Any) -> None:
    short = herovlm.drop(small.model, inputs, method="random", keep=0.3, positions="original")
    for row in range(2):
        mask = short["attention_mask"][row] == 1
        positions = short["position_ids"][row][mask]
        assert (positions.diff() > 0).all()
        assert positions[-1] == inputs["attention_mask"][row].sum() - 1
        known = inputs["input_ids"][row][inputs["attention_mask"][row] == 1]
        assert torch.equal(known[positions], short["input_ids"][row][mask])
    assert "position_ids" not in herovlm.drop(small.model, inputs, method="random", keep=0.3)
    with pytest.raises(TypeError, match="use_cache"):  # transformers would go silently wrong
        small.model.generate(**short, use_cache=False)


def test_position_ids_of_ones_own(small: tiny.Tiny, inputs: Any) -> None:
    usual = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    short = herovlm.drop(small.model, {**inputs, "position_ids": usual}, method="random", keep=0.3)
    assert "position_ids" not in short
    other = {**inputs, "position_ids": usual * 2}
    with pytest.raises(UnsupportedError, match="position_ids"):
        herovlm.drop(small.model, other, method="random", keep=0.3)
    kept = herovlm.drop(small.model, other, method="random", keep=0.3, positions="original")["position_ids"]
    mask = kept > 0
    assert (kept[mask] % 2 == 0).all()


def test_without_pictures_nothing_happens(small: tiny.Tiny) -> None:
    words = dict(small.processor.tokenizer("USER: hi ASSISTANT:", return_tensors="pt"))
    short = herovlm.drop(small.model, words)
    assert (short.seen, short.kept) == ((), ())
    assert dict(short) == words


def test_pictures_that_cannot_be_seen_are_an_error(small: tiny.Tiny, inputs: Any) -> None:
    words = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    with pytest.raises(InputsError, match="128 image placeholders, but there are no pixel_values"):
        herovlm.drop(small.model, words)
    with pytest.raises(UnsupportedError, match="mm_encoder_outputs"):
        herovlm.drop(small.model, herovlm.drop(small.model, inputs, method="random"))


def test_one_prompt_needs_no_mask(small: tiny.Tiny) -> None:
    inputs = small.inputs([[tiny.picture(60, 31)]], ["USER: <image>\nHi? ASSISTANT:"])
    bare = {name: value for name, value in inputs.items() if name != "attention_mask"}
    a = herovlm.drop(small.model, inputs, method="random", keep=0.3)
    b = herovlm.drop(small.model, bare, method="random", keep=0.3)
    assert torch.equal(a["input_ids"], b["input_ids"])
    assert torch.equal(a["attention_mask"], b["attention_mask"])


BAD_OPTIONS = [
    ({"keep": 0.0}, BudgetError, r"not in \(0, 1\]"),
    ({"keep": 1}, BudgetError, r"tokens=1; all of them are keep=1\.0"),
    ({"keep": 64}, BudgetError, "tokens=64"),
    ({"tokens": 0}, BudgetError, "keeps nothing"),
    ({"tokens": 0.2}, BudgetError, r"keep=0\.2"),
    ({"keep": 0.2, "tokens": 64}, BudgetError, "give one"),
    ({"keep": [0.2]}, BudgetError, "has 1 value for 2 images"),
    ({"keep": [1.0] * 3}, BudgetError, "has 3 values for 2 images"),
    ({"tokens": [1, 2, 3]}, BudgetError, r"tokens=\[1, 2, 3\] has 3 values for 2 images"),
    ({"keep": 1.5}, BudgetError, r"not in \(0, 1\]"),
    ({"keep": "abc"}, BudgetError, "not a number"),
    ({"method": "heroo"}, MethodError, "did you mean 'hero'"),
    ({"positions": "new"}, UsageError, "'compact' or 'original'"),
    ({"newlines": "some"}, UsageError, "'touched'"),
    ({"positions": np.zeros(2)}, UsageError, "'compact' or 'original'"),
    ({"newlines": ["none"]}, UsageError, "'touched'"),
    ({"question": 5}, UsageError, "question=5 is no text"),
    ({"question": ["Hi?", None]}, UsageError, "no text"),
    ({"question": torch.zeros(2)}, UsageError, "no text"),
    ({"processor": 5}, UsageError, "processor=5 reads neither"),
    ({"processor": "llava"}, UsageError, "model's own processor"),
    ({"method": 5}, MethodError, "method=5"),
    ({"narrow": (float("nan"), 0.5)}, UsageError, "narrow"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS, ids=str)
def test_bad_options(small: tiny.Tiny, inputs: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        herovlm.drop(small.model, inputs, **options)


@pytest.mark.parametrize("given", [torch.zeros(1, 3), None, "text", 5, [1], {1: 2}], ids=lambda x: type(x).__name__)
def test_inputs_that_are_no_mapping(small: tiny.Tiny, given: Any) -> None:
    with pytest.raises(InputsError, match="give all that the processor returned"):
        herovlm.drop(small.model, given)


BAD_INPUTS = [
    ({"attention_mask": [[1]]}, InputsError, "attention_mask must be one tensor"),
    ({"input_ids": torch.zeros(2, 3)}, InputsError, "input_ids is of torch.float32"),
    ({"pixel_values": torch.zeros(2, 5, 3, 16, 7)}, InputsError, "not what this model sees"),
    ({"pixel_values": torch.zeros(2, 5, 3, 16, 16, device="meta")}, InputsError, "meta"),
    ({"image_sizes": torch.zeros(2, 2, dtype=torch.long)}, InputsError, "from 1 on"),
    ({"image_sizes": "large"}, InputsError, "image_sizes must be"),
    ({"inputs_embeds": torch.zeros(2, 3, 32)}, UnsupportedError, "inputs_embeds"),
    ({"mm_encoder_outputs": {}}, UnsupportedError, "mm_encoder_outputs"),
    ({"pixel_values_videos": torch.zeros(1)}, UnsupportedError, "video"),
    ({"vision_feature_select_strategy": "full"}, UnsupportedError, "CLS token among the patches"),
    ({"input_ids": None}, InputsError, "return_tensors='pt'"),
    ({"pixel_values": [1]}, InputsError, "return_tensors='pt'"),
    ({"image_sizes": None}, InputsError, "image_sizes"),
    ({"image_sizes": torch.tensor([[60, 31]])}, InputsError, "do not fit 1 image_sizes"),
    ({"image_sizes": torch.tensor([[60, 31], [60, 31]])}, InputsError, "hold 128 image placeholders"),
    ({"attention_mask": torch.ones(2, 3)}, InputsError, r"attention_mask has shape \(2, 3\)"),
]


@pytest.mark.parametrize(("changed", "error", "message"), BAD_INPUTS, ids=lambda x: None)
def test_bad_inputs(small: tiny.Tiny, inputs: Any, changed: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        herovlm.drop(small.model, {**inputs, **changed}, method="random")


def test_more_bad_inputs(small: tiny.Tiny, inputs: Any) -> None:
    hidden = inputs["attention_mask"].clone()
    hidden[0] = 0
    with pytest.raises(InputsError, match="whole prompt"):
        herovlm.drop(small.model, {**inputs, "attention_mask": hidden}, method="random")
    with pytest.raises(InputsError, match="no attention_mask"):
        herovlm.drop(small.model, {**inputs, "attention_mask": None}, method="random")
    with pytest.raises(InputsError, match="spread over two prompts"):
        herovlm.drop(small.model, {**inputs, **swapped(inputs)}, method="random")
    short = herovlm.drop(small.model, inputs, method="random")
    with pytest.raises(UnsupportedError, match="mm_encoder_outputs"):
        herovlm.drop(small.model, {**short, "pixel_values": inputs["pixel_values"]}, method="random")
    with pytest.raises(UnsupportedError, match="use_cache=False"):
        herovlm.drop(small.model, {**inputs, "use_cache": False}, method="random", positions="original")


def swapped(inputs: Any) -> dict[str, Any]:
    """The two images in the wrong order."""
    return {name: inputs[name].flip(0) for name in ("pixel_values", "image_sizes")}


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_that_holds_a_prompt_is_refused(small: tiny.Tiny, inputs: Any, name: str) -> None:
    cache = DynamicCache(config=small.model.config.get_text_config())
    herovlm.drop(small.model, {**inputs, name: cache}, method="random")
    with torch.no_grad():
        small.model(**inputs, **{tiny.CACHE: cache})
    with pytest.raises(UnsupportedError, match="past_key_values"):
        herovlm.drop(small.model, {**inputs, name: cache}, method="random")


class Wrapped(torch.nn.Module):
    """What PEFT and torch.compile do: everything but the calls looks like the model inside."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.config = inner, inner.config

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


def test_models_that_do_not_fit(small: tiny.Tiny, inputs: Any) -> None:
    with pytest.raises(ModelError, match="llava_next"):
        herovlm.drop(small.clip, inputs)
    with pytest.raises(ModelError, match="not a transformers model"):
        herovlm.drop(torch.nn.Linear(1, 1), inputs)
    with pytest.raises(ModelError, match="the transformers model itself"):
        herovlm.drop(Wrapped(small.model), inputs)
    with pytest.raises(ModelError, match="the transformers model itself"), herovlm.dropping(Wrapped(small.model)):
        pass
    vision = small.model.config.vision_config
    with (
        set_to(vision, model_type="siglip_vision_model"),
        pytest.raises(ModelError, match="can read clip_vision_model"),
    ):
        herovlm.drop(small.model, inputs, method="random")
    with set_to(small.model.config, vision_feature_select_strategy="full"), pytest.raises(UnsupportedError):
        herovlm.drop(small.model, inputs, method="random")


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_loaded_model_is_the_same(models: Any, family: str, tmp_path: Any) -> None:
    small = models(family)
    small.model.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    inputs = small.inputs([[tiny.picture(60, 31)]], ["USER: <image>\nHi? ASSISTANT:"])
    a = herovlm.drop(small.model, inputs, method="hero(alpha=1)", keep=0.3)
    b = herovlm.drop(loaded, inputs, method="hero(alpha=1)", keep=0.3)
    assert torch.equal(a.kept[0].mask, b.kept[0].mask)
    assert torch.equal(small.model.generate(**a, max_new_tokens=4), loaded.generate(**b, max_new_tokens=4))
