"""What the LLaVA families must do besides (`test_families`): with a CLIP, newlines, and any language model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import tiny
import torch
from transformers.generation import utils as generation

import herovlm
from herovlm.towers import relevance

GREEDY = {"max_new_tokens": 6, "do_sample": False}
ANY_METHOD = ["hero", "hero(variant='official')", "random", "uniform", "pool", "thumbnail"]
pytestmark = pytest.mark.parametrize("family", tiny.FAMILIES)


def one(small: tiny.Tiny) -> Any:
    return small.inputs([[tiny.picture(60, 31)]], ["USER: <image>\nWhat is this? ASSISTANT:"])


def batch(small: tiny.Tiny, side: str = "left") -> Any:
    """Three prompts of different lengths: two images, one, none."""
    pictures = [[tiny.picture(20, 60), tiny.picture(33, 33, 1)], [tiny.picture(60, 31)], []]
    texts = ["USER: <image> or <image>\nWhich? ASSISTANT:", "USER: <image>\nWhat is it? ASSISTANT:", "USER: Hi"]
    return small.inputs(pictures, texts, side)


def new_tokens(model: Any, inputs: Any, **options: Any) -> torch.Tensor:
    return model.generate(**inputs, **(GREEDY | options))[:, inputs["input_ids"].shape[1] :]


@pytest.mark.parametrize("method", ["hero", "hero(variant='official')", "pool"])
def test_keep_all_is_the_untouched_model(models: Any, family: str, method: str) -> None:
    small = models(family)
    for inputs in (one(small), batch(small)):
        short = herovlm.drop(small.model, inputs, method=method, keep=1.0)
        assert torch.equal(short["input_ids"], inputs["input_ids"])
        assert torch.equal(short["attention_mask"], inputs["attention_mask"])
        assert [k.positions for k in short.kept] == [s.positions for s in short.seen]
        with torch.no_grad():
            assert torch.equal(small.model(**short).logits, small.model(**inputs).logits)
        want = new_tokens(small.model, inputs)
        assert torch.equal(new_tokens(small.model, short), want)
        with herovlm.dropping(small.model, method=method, keep=1.0):
            assert torch.equal(new_tokens(small.model, inputs), want)


def test_full_is_the_untouched_model(models: Any, family: str) -> None:
    small = models(family)
    inputs = batch(small)
    short = herovlm.drop(small.model, inputs, method="full", keep=0.1)
    assert torch.equal(new_tokens(small.model, short), new_tokens(small.model, inputs))


def test_keep_all_with_beams_is_the_untouched_model(models: Any, family: str) -> None:
    small = models(family)
    inputs = small.inputs([[tiny.picture(20, 60)], [tiny.picture(60, 31)]], ["<image> a", "USER: <image>\nWhat? "])
    short = herovlm.drop(small.model, inputs, keep=1.0)
    options = {"num_beams": 3, "num_return_sequences": 2}
    assert torch.equal(new_tokens(small.model, short, **options), new_tokens(small.model, inputs, **options))


@pytest.mark.parametrize("method", ANY_METHOD)
@pytest.mark.parametrize("asked", [{"keep": 0.1}, {"keep": [0.5, 1.0, 0.1]}, {"tokens": 9}], ids=str)
def test_placeholders_features_and_records_agree(models: Any, family: str, method: str, asked: Any) -> None:
    small = models(family)
    inputs = batch(small)
    short = herovlm.drop(small.model, inputs, method=method, **asked, processor=small.processor)
    image = short["input_ids"] == small.model.config.image_token_id
    counts = [k.positions for k in short.kept]
    assert image.sum(1).tolist() == [counts[0] + counts[1], counts[2], 0]
    features = short["mm_encoder_outputs"]["image"].pooler_output
    assert [len(f) for f in features] == [counts[0] + counts[1], counts[2]]
    assert not (image & (short["attention_mask"] == 0)).any()
    text = (inputs["input_ids"] != small.model.config.image_token_id) & (inputs["attention_mask"] == 1)
    for row in range(3):  # not a word is lost, and their order stays
        left = short["input_ids"][row][(short["attention_mask"][row] == 1) & ~image[row]]
        assert torch.equal(left, inputs["input_ids"][row][text[row]])
    for seen, kept in zip(short.seen, short.kept, strict=True):
        assert not (kept.mask & ~seen.valid).any()


def test_slots_and_newline_are_what_the_untouched_model_reads(models: Any, family: str) -> None:
    small = models(family)
    inputs = one(small)
    vision = {name: inputs[name] for name in ("pixel_values", "image_sizes") if name in inputs}
    with torch.no_grad():
        packed = small.model.get_image_features(**vision, return_dict=True).pooler_output[0]
    (seen,) = herovlm.drop(small.model, inputs, method="random", keep=0.4).seen
    assert (seen.newline is None) == (not seen.grid.rows)
    newline = torch.zeros(packed.shape[-1]) if seen.newline is None else seen.newline
    assert not newline.requires_grad
    read = torch.where((seen.slots >= 0)[:, None], seen.features.flatten(0, 1)[seen.slots.clamp(min=0)], newline)
    torch.testing.assert_close(read, packed)


def test_features_are_those_of_the_untouched_model(models: Any, family: str) -> None:
    small = models(family)
    inputs = one(small)
    vision = {name: inputs[name] for name in ("pixel_values", "image_sizes") if name in inputs}
    with torch.no_grad():
        packed = small.model.get_image_features(**vision, return_dict=True).pooler_output[0]
    short = herovlm.drop(small.model, inputs, method="random", keep=0.4)
    full = herovlm.drop(small.model, inputs, method="random", keep=0.4, positions="original")
    start = int((inputs["input_ids"][0] == small.model.config.image_token_id).nonzero()[0])
    at = full["position_ids"][0][full["input_ids"][0] == small.model.config.image_token_id] - start
    assert torch.equal(short["mm_encoder_outputs"]["image"].pooler_output[0], packed[at])
    assert (at.diff() > 0).all()


def test_an_image_does_not_depend_on_its_neighbours(models: Any, family: str) -> None:
    small = models(family)
    together = herovlm.drop(small.model, batch(small), keep=0.3, processor=small.processor)
    alone = herovlm.drop(small.model, one_of(small), keep=0.3, question="What is it?")
    assert torch.equal(together.kept[2].mask, alone.kept[0].mask)
    assert torch.equal(together.kept[2].newlines, alone.kept[0].newlines)
    with torch.no_grad():
        a, b = small.model(**together).logits[1, -1], small.model(**alone).logits[0, -1]
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    assert torch.equal(new_tokens(small.model, together)[1], new_tokens(small.model, alone)[0])


def one_of(small: tiny.Tiny) -> Any:
    """The second prompt of `batch`, alone."""
    return small.inputs([[tiny.picture(60, 31)]], ["USER: <image>\nWhat is it? ASSISTANT:"])


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_side_stays(models: Any, family: str, side: str) -> None:
    small = models(family)
    inputs = batch(small, side)
    short = herovlm.drop(small.model, inputs, method="random", keep=0.3)
    mask = short["attention_mask"]
    assert mask.sum(1).max() == mask.shape[1]
    assert (mask[:, 0 if side == "right" else -1] == 1).all()
    assert (mask.diff(dim=1) != 0).sum() == 2  # two rows are shorter
    assert (short["input_ids"][mask == 0] == small.processor.tokenizer.pad_token_id).all()


def test_inputs_stay_and_a_short_prompt_serves_many_calls(models: Any, family: str) -> None:
    small = models(family)
    inputs = batch(small)
    before = {name: value.clone() for name, value in inputs.items()}
    short = herovlm.drop(small.model, inputs, method="random", keep=0.3)
    first = [new_tokens(small.model, short, num_beams=beams) for beams in (1, 3)]
    again = [new_tokens(small.model, short, num_beams=beams) for beams in (1, 3)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert inputs.keys() == before.keys()
    assert all(torch.equal(inputs[name], before[name]) for name in before)


@pytest.mark.parametrize("positions", ["compact", "original"])
@pytest.mark.parametrize("options", [{"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}], ids=str)
def test_beams_of_a_batch_are_beams_of_its_prompts(models: Any, family: str, positions: Any, options: Any) -> None:
    small = models(family)
    how = {"method": "random", "keep": 0.3, "positions": positions}
    pictures = [[tiny.picture(20, 60), tiny.picture(33, 33, 1)], [tiny.picture(60, 31)]]
    texts = ["USER: <image> or <image>\nWhich? ASSISTANT:", "USER: <image>\nWhat is it? ASSISTANT:"]
    together = new_tokens(small.model, herovlm.drop(small.model, small.inputs(pictures, texts), **how), **options)
    for row, (some, text) in enumerate(zip(pictures, texts, strict=True)):
        alone = new_tokens(small.model, herovlm.drop(small.model, small.inputs([some], [text]), **how), **options)
        count = len(alone)
        both = together[row * count : (row + 1) * count, : alone.shape[1]]
        assert torch.equal(both, alone)


@pytest.mark.parametrize("positions", ["compact", "original"])
def test_faster_decoding_gives_the_greedy_tokens(models: Any, family: str, positions: Any) -> None:
    small, assistant = models(family), models(family, seed=7)
    never = {"suppress_tokens": [small.model.config.image_token_id]}  # an assistant trips over it, in plain HF too
    short = herovlm.drop(small.model, one(small), method="random", keep=0.3, positions=positions)
    want = new_tokens(small.model, short, **never)
    ways = ({"prompt_lookup_num_tokens": 3}, {"cache_implementation": "static"}, {"assistant_model": assistant.model})
    for way in ways:
        assert torch.equal(new_tokens(small.model, short, **never, **way), want)
        with herovlm.dropping(small.model, method="random", keep=0.3, positions=positions):
            assert torch.equal(new_tokens(small.model, one(small), **never, **way), want)
            with herovlm.dropping(assistant.model, method="thumbnail"):
                assert torch.equal(new_tokens(small.model, one(small), **never, **way), want)


def test_prompt_lookup_drafts_no_placeholder(models: Any, family: str) -> None:
    """The last token of the prompt, ":", is also the one before the image."""
    small, how = models(family), {"method": "random", "keep": 0.3}
    image = small.model.config.image_token_id
    inputs = small.inputs([[tiny.picture(60, 31)]], ["USER:<image>\nWhat is this? ASSISTANT:"])
    short = herovlm.drop(small.model, inputs, **how)
    with pytest.raises(ValueError, match="do not match"):  # so it is with the model itself, too
        new_tokens(small.model, short, prompt_lookup_num_tokens=3)
    never = {"suppress_tokens": [image]}
    want = new_tokens(small.model, short, **never)
    assert torch.equal(new_tokens(small.model, short, prompt_lookup_num_tokens=3, **never), want)
    with herovlm.dropping(small.model, **how):
        assert torch.equal(new_tokens(small.model, inputs, prompt_lookup_num_tokens=3), new_tokens(small.model, inputs))
        assert torch.equal(new_tokens(small.model, inputs, prompt_lookup_num_tokens=3, **never), want)


def test_sampling_returns_as_many_sequences_as_asked(models: Any, family: str) -> None:
    small = models(family)
    inputs = batch(small)
    short = herovlm.drop(small.model, inputs, method="random", keep=0.3)
    options = {"do_sample": True, "num_return_sequences": 3, "top_k": 20}
    torch.manual_seed(0)
    want = new_tokens(small.model, short, **options)
    torch.manual_seed(0)
    with herovlm.dropping(small.model, method="random", keep=0.3):
        got = small.model.generate(**inputs, **(GREEDY | options))
    assert len(got) == 9
    assert torch.equal(got[:, : inputs["input_ids"].shape[1]], inputs["input_ids"].repeat_interleave(3, 0))
    assert torch.equal(got[:, inputs["input_ids"].shape[1] :], want)


def test_chunked_prefill(models: Any, family: str) -> None:
    small = models(family)
    inputs = one(small)
    with herovlm.dropping(small.model, method="random", keep=0.3):
        if not hasattr(generation, "_slice_mm_encoder_output"):  # older transformers mix up the features of chunks
            with pytest.raises(herovlm.UnsupportedError, match="prefill_chunk_size"):
                small.model.generate(**inputs, **GREEDY, prefill_chunk_size=7)
        else:
            want = small.model.generate(**inputs, **GREEDY)
            assert torch.equal(small.model.generate(**inputs, **GREEDY, prefill_chunk_size=7), want)


@pytest.mark.parametrize(("text", "attention"), [("mistral", "sdpa"), ("qwen2", "sdpa"), ("llama", "eager")])
def test_any_language_model_behind_it(models: Any, family: str, text: str, attention: str) -> None:
    small = models(family, text=text, attention=attention)
    inputs = batch(small)
    short = herovlm.drop(small.model, inputs, keep=0.3, processor=small.processor)
    assert new_tokens(small.model, short).shape == (3, 6)
    whole = herovlm.drop(small.model, inputs, keep=1.0)
    assert torch.equal(new_tokens(small.model, whole), new_tokens(small.model, inputs))


def test_bfloat16(family: str) -> None:
    small = tiny.make(family)
    single = herovlm.drop(small.model, batch(small), keep=0.3, processor=small.processor)
    relevance.attach(small.model, copy.deepcopy(small.clip), tiny.clip_tokenizer())  # it shares the tower's weights
    small.model.bfloat16()
    inputs = batch(small)
    short = herovlm.drop(small.model, inputs, keep=0.3, processor=small.processor)
    assert short.seen[0].features is not None
    assert short.seen[0].features.dtype == torch.bfloat16
    assert all(row.dtype == torch.float32 for row in short.seen[0].attention.values())
    same = torch.cat([(a.mask == b.mask).flatten() for a, b in zip(short.kept, single.kept, strict=True)])
    assert same.float().mean() > 0.9  # rounding may swap patches that score nearly the same
    assert new_tokens(small.model, short).shape == (3, 6)
    whole = herovlm.drop(small.model, inputs, keep=1.0)
    assert torch.equal(new_tokens(small.model, whole), new_tokens(small.model, inputs))


def test_labels_are_gathered(models: Any, family: str) -> None:
    small = models(family)
    inputs = batch(small)
    labels = inputs["input_ids"].clone()
    labels[:, :-4] = -100
    short = herovlm.drop(small.model, {**inputs, "labels": labels}, method="random", keep=0.3, positions="original")
    assert short["labels"].shape == short["input_ids"].shape
    assert torch.equal(short["labels"][:, -4:], labels[:, -4:])
    assert (short["labels"][:, :-4] == -100).all()
    plain = {name: value for name, value in short.items() if name != "labels"}
    with torch.no_grad():
        logits = small.model(**plain).logits[:, -5:-1]
        want = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, -4:].flatten())
        torch.testing.assert_close(small.model(**short).loss, want)


def test_gradients_stay_in_the_language_model(models: Any, family: str) -> None:
    small = models(family)
    short = herovlm.drop(small.model, one(small), method="random", keep=0.3)
    assert not any(f.requires_grad for f in short["mm_encoder_outputs"]["image"].pooler_output)


def test_the_vision_tower_runs_once(models: Any, family: str) -> None:
    small = models(family)
    calls = []
    handle = small.model.model.vision_tower.register_forward_hook(lambda *_: calls.append(1))
    try:
        short = herovlm.drop(small.model, batch(small), keep=0.3, processor=small.processor)
        new_tokens(small.model, short)
        assert len(calls) == 1
        with herovlm.dropping(small.model, keep=0.3, processor=small.processor):
            new_tokens(small.model, batch(small))
        assert len(calls) == 2
    finally:
        handle.remove()
