"""Relevance: the cosine of CLIP, with and without a second vision pass; and where the CLIP is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import AutoModelForImageTextToText, CLIPModel

import herovlm
from herovlm.errors import InputsError, TextTowerError, UnsupportedError
from herovlm.towers import relevance

TEXT = ["USER: <image>\nWhat is this? ASSISTANT:", "USER: <image> <image>\nIs it green? ASSISTANT:"]
QUESTIONS = ["What is this?", "Is it green?"]


@pytest.fixture
def small() -> tiny.Tiny:
    return tiny.make()


def make_inputs(small: tiny.Tiny) -> Any:
    return small.inputs([[tiny.picture(60, 31)], [tiny.picture(33, 33, 1), tiny.picture(20, 60, 2)]], TEXT)


@torch.no_grad()
def by_hand(clip: CLIPModel, pixels: torch.Tensor, text: str) -> torch.Tensor:
    """What CLIPModel itself says about tiles and a text."""
    tokens = tiny.clip_tokenizer()(text, truncation=True, max_length=20, return_tensors="pt")
    image = clip.get_image_features(pixels).pooler_output
    words = clip.get_text_features(tokens["input_ids"], attention_mask=tokens["attention_mask"]).pooler_output
    return torch.cosine_similarity(image, words)


@pytest.mark.parametrize("kind", ["tower", "clip"])
def test_relevance_is_the_cosine_of_clip(small: tiny.Tiny, kind: str) -> None:
    inputs = make_inputs(small)
    short = herovlm.drop(small.model, inputs, method=f"hero(relevance={kind!r})", processor=small.processor)
    asked = [QUESTIONS[0], QUESTIONS[1], QUESTIONS[1]]  # of each image
    for seen, pixels, question in zip(short.seen, inputs["pixel_values"], asked, strict=True):
        want = by_hand(small.clip, pixels[: len(seen.valid)], question)
        torch.testing.assert_close(seen.relevance, want, atol=1e-6, rtol=0)
        assert want.std() > 1e-3


@torch.no_grad()
def test_dots_are_products_of_what_the_projector_reads_and_nothing_is_normalised(small: tiny.Tiny) -> None:
    inputs = make_inputs(small)
    short = herovlm.drop(small.model, inputs, method="trim", processor=small.processor)
    asked = [QUESTIONS[0], QUESTIONS[1], QUESTIONS[1]]  # of each image
    for seen, question in zip(short.seen, asked, strict=True):
        ids = tiny.clip_tokenizer()(question, return_tensors="pt")["input_ids"]
        words = small.clip.get_text_features(ids).pooler_output[0]
        normed = small.clip.vision_model.post_layernorm(seen.hidden)
        want = small.clip.visual_projection(normed) @ words
        torch.testing.assert_close(seen.dots, want, atol=1e-5, rtol=1e-5)
        assert seen.dots.std() > 1e-2


def test_dots_need_one_layer(small: tiny.Tiny) -> None:
    with pytest.raises(UnsupportedError, match="more than one layer"):
        relevance.score(small.model, "dots", ["Hi?"], torch.zeros(1, 16, 64), [0])


def test_clip_relevance_is_that_of_the_other_tower(small: tiny.Tiny) -> None:
    other = tiny.make_clip(seed=9)
    relevance.attach(small.model, other, tiny.clip_tokenizer())
    inputs = make_inputs(small)
    short = herovlm.drop(small.model, inputs, method="hero(relevance='clip')", question=QUESTIONS)
    want = by_hand(other, inputs["pixel_values"][0][: len(short.seen[0].valid)], QUESTIONS[0])
    torch.testing.assert_close(short.seen[0].relevance, want, atol=1e-6, rtol=0)
    assert (want - by_hand(small.clip, inputs["pixel_values"][0][: len(want)], QUESTIONS[0])).abs().max() > 1e-2


def test_question_given_is_question_read(small: tiny.Tiny) -> None:
    inputs = make_inputs(small)
    read = herovlm.drop(small.model, inputs, processor=small.processor).seen
    given = herovlm.drop(small.model, inputs, question=QUESTIONS).seen
    one = herovlm.drop(small.model, inputs, question=QUESTIONS[0]).seen
    for a, b in zip(read, given, strict=True):
        assert torch.equal(a.relevance, b.relevance)
    assert torch.equal(one[0].relevance, read[0].relevance)
    assert not torch.equal(one[1].relevance, read[1].relevance)


def test_of_a_long_question_the_end_counts(small: tiny.Tiny) -> None:
    """A context of 20 tokens, with <s> and </s>, reads the last 18 letters; two questions behind it are two."""
    inputs, found = make_inputs(small), []
    for asked in ("What is this?", "Is it very green?"):
        long = "Here is a long story about a sign. " * 2000 + asked
        seen = herovlm.drop(small.model, inputs, question=long).seen[0]
        read = small.inputs([[tiny.picture(60, 31)]], [f"USER: <image>\n{long[-1500:]} ASSISTANT:"])
        of_prompt = herovlm.drop(small.model, read, processor=small.processor).seen[0]
        want = by_hand(small.clip, inputs["pixel_values"][0][: len(seen.valid)], long[-18:])
        for one in (seen, of_prompt):
            torch.testing.assert_close(one.relevance, want, atol=1e-6, rtol=0)
        found.append(want)
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize("question", ["", "  \n", ["fine", ""]])
def test_no_question_is_an_error(small: tiny.Tiny, question: Any) -> None:
    with pytest.raises(InputsError, match=r"question=.*alpha=1"):
        herovlm.drop(small.model, make_inputs(small), question=question)
    herovlm.drop(small.model, make_inputs(small), question=question, method="hero(alpha=1)")


def text_runs(clip: Any) -> tuple[list[int], Any]:
    """How many questions each pass of the text tower was given."""
    runs: list[int] = []
    return runs, clip.text_model.register_forward_pre_hook(
        lambda _m, args, kwargs: runs.append(len(kwargs.get("input_ids", args[0] if args else None))), with_kwargs=True
    )


def test_all_questions_go_through_the_text_tower_once(small: tiny.Tiny) -> None:
    inputs = small.inputs([[tiny.picture(60, 31)]] * 4, TEXT[:1] * 4)
    asked = ["Is it on the left?", "A?", "Is it on the left?", "How many of them are green or blue?"]
    relevance.forget(small.clip)
    runs, hook = text_runs(small.clip)
    together = herovlm.drop(small.model, inputs, question=asked).seen
    herovlm.drop(small.model, inputs, question=asked[::-1])
    assert runs == [3], "equal ones once, and none again"
    for seen, one in zip(together, asked, strict=True):
        relevance.forget(small.clip)
        alone = herovlm.drop(small.model, small.inputs([[tiny.picture(60, 31)]], TEXT[:1]), question=one).seen[0]
        torch.testing.assert_close(seen.relevance, alone.relevance, atol=1e-6, rtol=1e-5)
    hook.remove()


def scale(weight: torch.nn.Parameter) -> None:
    with torch.no_grad():
        weight.mul_(-3)


WRITES: dict[str, Any] = {
    "in place": lambda clip: scale(clip.text_projection.weight),
    "deep in the tower": lambda clip: scale(clip.text_model.encoder.layers[0].mlp.fc1.weight),
    "other data": lambda clip: setattr(clip.text_projection.weight, "data", -clip.text_projection.weight.data),
    "replaced": lambda clip: setattr(clip.text_projection, "weight", torch.nn.Parameter(-clip.text_projection.weight)),
    "loaded": lambda clip: clip.load_state_dict(tiny.make_clip(seed=7).state_dict()),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_question_is_embedded_anew_when_the_weights_change(write: str) -> None:
    small = tiny.make("llava_next")
    inputs = make_inputs(small)
    before = herovlm.drop(small.model, inputs, question="Hi?").seen[0].relevance
    assert torch.equal(before, herovlm.drop(small.model, inputs, question="Hi?").seen[0].relevance)
    WRITES[write](small.clip)
    after = herovlm.drop(small.model, inputs, question="Hi?").seen[0]
    want = by_hand(small.clip, inputs["pixel_values"][0][: len(after.valid)], "Hi?")
    torch.testing.assert_close(after.relevance, want, atol=1e-6, rtol=1e-5)
    assert (before - after.relevance).abs().max() > 1e-3


def test_only_the_last_questions_are_remembered(small: tiny.Tiny) -> None:
    inputs = small.inputs([[tiny.picture(60, 31)]], TEXT[:1])
    for number in range(relevance.MOST + 5):
        herovlm.drop(small.model, inputs, question=f"Is it number {number}?")
    assert len(relevance._embedded[small.clip]) == relevance.MOST


def test_wrong_number_of_questions_is_an_error(small: tiny.Tiny) -> None:
    with pytest.raises(InputsError, match="3 questions for 2 prompts"):
        herovlm.drop(small.model, make_inputs(small), question=["a", "b", "c"])


def test_neither_question_nor_processor_is_an_error(small: tiny.Tiny) -> None:
    with pytest.raises(InputsError, match="processor="):
        herovlm.drop(small.model, make_inputs(small))


def test_a_text_only_prompt_needs_no_question(small: tiny.Tiny) -> None:
    inputs = small.inputs([[tiny.picture(60, 31)], []], [TEXT[0], "USER: ASSISTANT:"])
    assert len(herovlm.drop(small.model, inputs, processor=small.processor).seen) == 1


def test_one_tile_needs_neither_question_nor_clip() -> None:
    small = tiny.make("llava")
    relevance._found.pop(small.model)
    inputs = small.inputs([[tiny.picture(60, 31)]], TEXT[:1])
    assert herovlm.drop(small.model, inputs).seen[0].relevance is None


def save(small: tiny.Tiny, folder: Path, named: str | None) -> None:
    if named is not None:
        small.model.config.herovlm_clip = named
    small.model.save_pretrained(folder)
    small.processor.save_pretrained(folder)
    small.clip.save_pretrained(folder / "own" / "clip")
    tiny.clip_tokenizer().save_pretrained(folder / "own" / "clip")


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("kind", ["tower", "clip"])
def test_clip_is_found_through_the_config(small: tiny.Tiny, tmp_path: Path, absolute: bool, kind: str) -> None:
    save(small, tmp_path / "model", str(tmp_path / "model/own/clip") if absolute else "own/clip")
    assert "herovlm_clip" in json.loads((tmp_path / "model/config.json").read_text())
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "model").eval()
    inputs = make_inputs(small)
    method = f"hero(relevance={kind!r})"
    got = herovlm.drop(loaded, inputs, method=method, processor=small.processor)
    want = herovlm.drop(small.model, inputs, method=method, processor=small.processor)
    for a, b in zip(got.kept, want.kept, strict=True):
        assert torch.equal(a.mask, b.mask)
    torch.testing.assert_close(got.seen[0].relevance, want.seen[0].relevance, atol=1e-6, rtol=0)
    beside = herovlm.drop(loaded, inputs, method=method)  # the tokenizer in the model's folder reads the question
    assert torch.equal(beside.seen[0].relevance, got.seen[0].relevance)


def test_a_saved_clip_serves_both_kinds_in_any_order(small: tiny.Tiny, tmp_path: Path) -> None:
    save(small, tmp_path, "own/clip")
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    inputs = make_inputs(small)
    for kind in ("tower", "clip", "tower"):
        herovlm.drop(loaded, inputs, method=f"hero(relevance={kind!r})", processor=small.processor)


def test_no_clip_names_the_ways_out(small: tiny.Tiny) -> None:
    relevance._found.pop(small.model)
    with pytest.raises(TextTowerError, match=r"herovlm_clip.*alpha=1"):
        herovlm.drop(small.model, make_inputs(small), processor=small.processor)
    small.model.config.herovlm_clip = "nobody/has-this"
    with pytest.raises(TextTowerError, match="'nobody/has-this' is not on this machine"):
        herovlm.drop(small.model, make_inputs(small), processor=small.processor)
    herovlm.drop(small.model, make_inputs(small), method="hero(alpha=1)")


def test_a_clip_of_another_size_is_an_error(small: tiny.Tiny) -> None:
    other = tiny.make_clip()
    other.config.vision_config.hidden_size = 64
    relevance.attach(small.model, other, tiny.clip_tokenizer())
    with pytest.raises(TextTowerError, match="32 channels, its CLIP 64"):
        herovlm.drop(small.model, make_inputs(small), processor=small.processor)


def test_well_known_towers_are_in_the_table() -> None:
    from transformers import LlavaConfig, LlavaNextConfig

    for config in (LlavaConfig(), LlavaNextConfig()):
        v = config.vision_config
        key = (v.hidden_size, v.num_hidden_layers, v.image_size, v.patch_size)
        assert relevance.TOWERS[key] == "openai/clip-vit-large-patch14-336"


def test_the_cache_does_not_keep_models_alive(small: tiny.Tiny) -> None:
    import gc

    before = len(relevance._found)
    del small.model
    gc.collect()
    assert len(relevance._found) < before
