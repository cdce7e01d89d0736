"""dropping(): the caller sees its own prompt, and the instance comes back as it was."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import tiny
import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessor, StoppingCriteria, TextStreamer, pipeline

import herovlm
from herovlm.errors import BudgetError, InputsError, MethodError, ModelError, UnsupportedError
from herovlm.seams.compat import CACHES, cache_in

GREEDY = {"max_new_tokens": 5, "do_sample": False}


@pytest.fixture(params=tiny.FAMILIES)
def small(request: pytest.FixtureRequest, models: Any) -> tiny.Tiny:
    return models(request.param)


@pytest.fixture
def inputs(small: tiny.Tiny) -> Any:
    pictures = [[tiny.picture(60, 31)], [tiny.picture(20, 60)]]
    return small.inputs(pictures, ["USER: <image>\nHi? ASSISTANT:", "USER: see this <image>\nIs it green? ASSISTANT:"])


@pytest.fixture(autouse=True)
def no_trace(models: Any) -> Iterator[None]:
    """Every test of this file leaves the models as it found them."""
    yield
    for family in tiny.FAMILIES:
        assert ours(models(family).model) == []


def ours(model: Any) -> list[Any]:
    """Everything of ours that hangs on a model."""
    found: list[Any] = [name for name in vars(model) if name in ("generate", "forward")]
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            found += [hook for hook in hooks.values() if "herovlm" in str(getattr(hook, "__module__", ""))]
    return found


def test_no_trace_sees_a_trace(small: tiny.Tiny) -> None:
    with herovlm.dropping(small.model, method="random"):
        assert len(ours(small.model)) == 3  # generate, and a hook before and behind a direct call


def test_sequences_begin_with_the_original_prompt(small: tiny.Tiny, inputs: Any) -> None:
    short = herovlm.drop(small.model, inputs, method="random", keep=0.3)
    want = small.model.generate(**short, **GREEDY)[:, short["input_ids"].shape[1] :]
    with herovlm.dropping(small.model, method="random", keep=0.3) as record:
        got = small.model.generate(**inputs, **GREEDY)
        whole = small.model.generate(**inputs, **GREEDY, return_dict_in_generate=True, output_scores=True)
    length = inputs["input_ids"].shape[1]
    assert torch.equal(got[:, :length], inputs["input_ids"])
    assert torch.equal(got[:, length:], want)
    assert torch.equal(whole.sequences, got)
    assert torch.equal(whole["sequences"], got)
    assert len(whole.scores) == 5
    assert record.last is not None
    assert [k.positions for k in record.last.kept] == [k.positions for k in short.kept]


@pytest.mark.parametrize("as_config", [False, True])
def test_max_length_counts_the_original_prompt(small: tiny.Tiny, inputs: Any, as_config: bool) -> None:
    limit = inputs["input_ids"].shape[1] + 4
    options = {"max_length": limit, "min_length": limit, "do_sample": False}
    config = GenerationConfig(**options, pad_token_id=0, eos_token_id=2)
    with herovlm.dropping(small.model, method="random", keep=0.3):
        given = {"generation_config": config} if as_config else options
        assert small.model.generate(**inputs, **given).shape[1] == limit
    assert config.max_length == limit  # the caller's object is untouched


def test_max_length_of_the_model_counts_the_original_prompt(small: tiny.Tiny, inputs: Any) -> None:
    limit = inputs["input_ids"].shape[1] + 3
    small.model.generation_config.max_length = limit
    try:
        with herovlm.dropping(small.model, method="random", keep=0.3):
            assert small.model.generate(**inputs, min_length=limit).shape[1] == limit
            assert small.model.generate(**inputs, max_new_tokens=7, min_new_tokens=7).shape[1] == limit + 4
    finally:
        small.model.generation_config.max_length = None


def test_callers_see_the_original_prompt(small: tiny.Tiny, inputs: Any) -> None:
    prompt = inputs["input_ids"]
    seen: list[torch.Tensor] = []

    class Look(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            seen.append(input_ids)
            return scores

    class Stop(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            seen.append(input_ids)
            return torch.full((len(input_ids),), input_ids.shape[1] >= prompt.shape[1] + 2)

    def allowed(row: int, ids: torch.Tensor) -> list[int]:
        seen.append(ids[None])
        assert torch.equal(ids[: prompt.shape[1]], prompt[row])
        return [65, 66]

    with herovlm.dropping(small.model, method="random", keep=0.3):
        out = small.model.generate(
            **inputs,
            max_new_tokens=9,
            num_beams=2,
            logits_processor=[Look()],
            stopping_criteria=[Stop()],
            prefix_allowed_tokens_fn=allowed,
        )
    assert out.shape[1] == prompt.shape[1] + 2
    several = [ids for ids in seen if len(ids) > 1]  # beams of both prompts; single rows were looked at above
    assert several
    for ids in several:
        assert torch.equal(ids[:, : prompt.shape[1]], prompt.repeat_interleave(len(ids) // 2, 0))


def test_streamer_is_shown_the_original_prompt(small: tiny.Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = small.inputs([[tiny.picture(60, 31)]], ["USER: <image>\nHi? ASSISTANT:"])
    words = small.processor.tokenizer
    with herovlm.dropping(small.model, method="random", keep=0.3):
        out = small.model.generate(**inputs, **GREEDY, streamer=TextStreamer(words))
        shown = capsys.readouterr().out
        small.model.generate(**inputs, **GREEDY, streamer=TextStreamer(words, skip_prompt=True))
    assert shown.strip() == words.decode(out[0]).strip()
    assert "USER" not in capsys.readouterr().out


def test_direct_call_is_shortened(small: tiny.Tiny, inputs: Any) -> None:
    short = herovlm.drop(small.model, inputs, method="random", keep=0.3)
    with torch.no_grad(), herovlm.dropping(small.model, method="random", keep=0.3):
        got = small.model(**inputs).logits
        positional = small.model(inputs["input_ids"], inputs["pixel_values"], **_rest(inputs)).logits
    with torch.no_grad():
        want = small.model(**short).logits
        assert small.model(**inputs).logits.shape[1] == inputs["input_ids"].shape[1]
    assert torch.equal(got, want)
    assert torch.equal(positional, want)


def _rest(inputs: Any) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if name not in ("input_ids", "pixel_values")}


def test_restores_after_an_error(small: tiny.Tiny, inputs: Any) -> None:
    before = small.model.generate(**inputs, **GREEDY)
    with pytest.raises(RuntimeError, match="boom"), herovlm.dropping(small.model, method="random"):
        raise RuntimeError("boom")
    with herovlm.dropping(small.model, method="random"), pytest.raises(InputsError):
        small.model.generate(**{**inputs, "input_ids": inputs["input_ids"][:, 9:]}, **GREEDY)
    assert ours(small.model) == []
    assert torch.equal(small.model.generate(**inputs, **GREEDY), before)


def test_restores_an_instance_attribute_of_somebody_else(small: tiny.Tiny, inputs: Any) -> None:
    inner = small.model.generate
    calls = []

    def theirs(*args: Any, **kwargs: Any) -> Any:
        calls.append(sorted(kwargs))
        return inner(*args, **kwargs)

    small.model.generate = theirs
    try:
        with herovlm.dropping(small.model, method="random", keep=0.3):
            small.model.generate(**inputs, **GREEDY)
        assert vars(small.model)["generate"] is theirs
        assert "mm_encoder_outputs" in calls[0]
    finally:
        del small.model.generate


def test_the_innermost_of_nested_contexts_counts(small: tiny.Tiny, inputs: Any) -> None:
    plain = small.model.generate(**inputs, **GREEDY)
    with herovlm.dropping(small.model, method="random", keep=0.3) as outer:
        first = small.model.generate(**inputs, **GREEDY)
        assert outer.last is not None
        counts = [k.positions for k in outer.last.kept]
        with herovlm.dropping(small.model, method="random", keep=1.0):
            assert torch.equal(small.model.generate(**inputs, **GREEDY), plain)
            assert small.model(**inputs).logits.shape[1] == inputs["input_ids"].shape[1]
        with herovlm.dropping(small.model, method="thumbnail", keep=0.1) as inner:
            small.model.generate(**inputs, **GREEDY)
        assert inner.last is not None
        assert [k.positions for k in inner.last.kept] != counts
        assert torch.equal(small.model.generate(**inputs, **GREEDY), first)
    assert ours(small.model) == []


def test_two_models_at_once(models: Any) -> None:
    one, two = models("llava_next"), models("llava_next", text="qwen2")
    inputs = one.inputs([[tiny.picture(60, 31)]], ["USER: <image>\nHi? ASSISTANT:"])
    with herovlm.dropping(one.model, method="random", keep=0.3) as first:
        alone = one.model.generate(**inputs, **GREEDY)
        with herovlm.dropping(two.model, method="random", keep=0.6) as second:
            two.model.generate(**inputs, **GREEDY)
            assert torch.equal(one.model.generate(**inputs, **GREEDY), alone)
        assert ours(two.model) == []
        assert len(ours(one.model)) == 3
    assert first.last is not None
    assert second.last is not None
    assert first.last.kept[0].positions < second.last.kept[0].positions


def test_text_only_calls_pass(small: tiny.Tiny) -> None:
    words = small.processor.tokenizer("USER: hi ASSISTANT:", return_tensors="pt")
    want = small.model.generate(**words, **GREEDY)
    with herovlm.dropping(small.model, method="random", keep=0.3) as record:
        assert torch.equal(small.model.generate(**words, **GREEDY), want)
        assert torch.equal(small.model.generate(words["input_ids"], **GREEDY), want)
    assert record.last is None


def test_options_are_checked_on_entry(small: tiny.Tiny) -> None:
    with pytest.raises(BudgetError), herovlm.dropping(small.model, tokens=0):
        pass
    with pytest.raises(ModelError), herovlm.dropping(small.clip):
        pass


def test_pipeline(small: tiny.Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    template = (
        "{% for m in messages %}USER: {% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %} ASSISTANT:"
    )
    monkeypatch.setattr(small.processor, "chat_template", template)
    pipe = pipeline("image-text-to-text", model=small.model, processor=small.processor)
    chat = [
        {
            "role": "user",
            "content": [{"type": "image", "image": tiny.picture(60, 31)}, {"type": "text", "text": "What is it?"}],
        }
    ]
    plain = pipe(text=chat, return_full_text=False, max_new_tokens=5, generate_kwargs={"do_sample": False})
    with herovlm.dropping(small.model, method="hero", keep=0.3, processor=small.processor) as record:
        got = pipe(text=chat, return_full_text=False, max_new_tokens=5, generate_kwargs={"do_sample": False})
    with herovlm.dropping(small.model, method="hero", keep=1.0, processor=small.processor):
        whole = pipe(text=chat, return_full_text=False, max_new_tokens=5, generate_kwargs={"do_sample": False})
    assert record.last is not None
    assert record.last.kept[0].positions < record.last.seen[0].positions
    assert "USER" not in got[0]["generated_text"]
    assert whole == plain


@pytest.mark.parametrize(
    ("options", "message"),
    [({"use_cache": False}, "use_cache"), ({"token_healing": True}, "token_healing")],
)
def test_refuses_what_goes_silently_wrong(small: tiny.Tiny, inputs: Any, options: Any, message: str) -> None:
    with herovlm.dropping(small.model, method="random", keep=0.3, positions="original"):
        with pytest.raises(UnsupportedError, match=message):
            small.model.generate(**inputs, **GREEDY, **options)
        with pytest.raises(UnsupportedError, match=message):
            small.model.generate(**inputs, generation_config=GenerationConfig(max_new_tokens=3, **options))


@pytest.mark.parametrize("name", CACHES)
def test_refuses_the_cache_of_a_shortened_prompt(small: tiny.Tiny, inputs: Any, name: str) -> None:
    with herovlm.dropping(small.model, method="random", keep=0.3):
        out = small.model.generate(**inputs, **GREEDY, return_dict_in_generate=True)
        mask = torch.ones_like(out.sequences)
        with pytest.raises(UnsupportedError, match="past_key_values"):
            small.model.generate(out.sequences, attention_mask=mask, **{name: cache_in(out)})
        with pytest.raises(UnsupportedError, match="past_key_values"):
            small.model.generate(**inputs, **{name: cache_in(out)})


def went_on(model: Any, out: Any, cache: Any) -> list[Any]:
    """Every way of going on from a cache with the whole conversation, or with new tokens."""
    mask, new = torch.ones_like(out.sequences), out.sequences[:, -1:]
    return [
        lambda: model.generate(out.sequences, attention_mask=mask, **{tiny.CACHE: cache}, **GREEDY),
        lambda: model.generate(new, attention_mask=mask, **{tiny.CACHE: cache}, **GREEDY),
        lambda: model(input_ids=new, **{tiny.CACHE: cache}),
    ]


@pytest.mark.parametrize("method", ["random", "random + fastv(layer=1)"])
@pytest.mark.parametrize("how", ["returned", "given", "of a call"])
def test_the_cache_of_a_shortened_prompt_is_refused_outside(
    small: tiny.Tiny, inputs: Any, method: str, how: str
) -> None:
    """It was silently wrong: transformers cuts the next prompt by the length of the short one."""
    given = DynamicCache()
    with torch.no_grad(), herovlm.dropping(small.model, method=method, keep=0.3):
        out = small.model.generate(
            **inputs, **GREEDY, return_dict_in_generate=True, **{tiny.CACHE: given if how == "given" else None}
        )
        cache = cache_in(out) if how == "returned" else given
        if how == "of a call":
            cache = cache_in(small.model(**inputs, use_cache=True))
            small.model(input_ids=out.sequences[:, -1:], **{tiny.CACHE: cache})  # a loop of one's own goes on inside
    assert isinstance(cache, DynamicCache)
    length = cache.get_seq_length()
    with torch.no_grad():
        copies = [cache, copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))]
        for go_on in itertools.chain.from_iterable(went_on(small.model, out, one) for one in copies):
            with pytest.raises(UnsupportedError, match="past_key_values"):
                go_on()
            with herovlm.dropping(small.model, method=method), pytest.raises(UnsupportedError, match="past_key_values"):
                go_on()
        with pytest.raises(UnsupportedError, match="past_key_values"):
            small.model.generate(**inputs, **GREEDY, **{tiny.CACHE: cache})
    assert cache.get_seq_length() == length == cache.layers[0].keys.shape[2]  # it can be looked at
    plain = small.model.generate(**inputs, **GREEDY)
    cache.reset()
    assert torch.equal(small.model.generate(**inputs, **GREEDY, **{tiny.CACHE: cache}), plain)
    assert type(cache) is DynamicCache


def test_the_cache_of_an_untouched_prompt_is_a_plain_one(small: tiny.Tiny, inputs: Any) -> None:
    with herovlm.dropping(small.model, method="random", keep=1.0):
        out = small.model.generate(**inputs, **GREEDY, return_dict_in_generate=True)
    short = herovlm.drop(small.model, inputs, method="random", keep=0.3)
    with herovlm.dropping(small.model, method="random", keep=0.3):
        other = small.model.generate(**short, **GREEDY, return_dict_in_generate=True)  # made shorter before
    for cache in (cache_in(out), cache_in(other)):
        assert type(cache) is DynamicCache
        with torch.no_grad():
            small.model(input_ids=torch.full((2, 1), 65), **{tiny.CACHE: cache})


@pytest.mark.parametrize("part", ["tower", "no tower", "blocks", "projector", "method", "narrow"])
def test_the_model_is_checked_on_entry(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And by drop() before anything runs: there is nothing in the inputs to look at."""
    model = tiny.make("llava_next").model
    plan: dict[str, Any] = {"method": "random"}
    error: type[Exception] = ModelError
    if part == "tower":
        monkeypatch.setattr(model.config.vision_config, "model_type", "siglip_vision_model")
    elif part == "no tower":
        model.model.vision_tower = None
    elif part == "blocks":
        model.model.vision_tower = torch.nn.Identity()
    elif part == "projector":
        model.model.multi_modal_projector = None
    elif part == "method":
        plan, error = {"method": "vtc_cls(last=9)"}, MethodError
    else:
        plan["narrow"], error = 0.5, UnsupportedError
        for layer in model.model.vision_tower.encoder.layers:
            layer.__class__ = type("Other", (type(layer),), {})
    with pytest.raises(error), herovlm.dropping(model, **plan):
        pytest.fail("it was let in")
    with pytest.raises(error):
        herovlm.drop(model, {}, **plan)
