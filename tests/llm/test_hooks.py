"""Hooks of inside methods come and go, and what would be silently wrong is refused."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from transformers import DynamicCache, GenerationConfig, StaticCache

import herovlm
from herovlm import api
from herovlm.errors import BudgetError, InputsError, MethodError, UnsupportedError
from herovlm.methods.inside.fastv import FastV
from herovlm.seams import refuse
from herovlm.seams.compat import cache_in

LAYERS = 5
GREEDY = {"max_new_tokens": 5, "do_sample": False}
SPEC = "fastv(layer=2, keep=0.3)"


@pytest.fixture
def small(models: Any) -> tiny.Tiny:
    return models(layers=LAYERS)


@pytest.fixture
def inputs(small: tiny.Tiny) -> Any:
    return small.inputs([[tiny.picture(33, 33)]], ["USER: <image>\nWhat is this? ASSISTANT:"])


@pytest.fixture(autouse=True)
def no_trace(models: Any) -> Iterator[None]:
    """Every test of this file leaves the models as it found them."""
    yield
    for text in ("llama", "qwen2"):
        assert ours(models(text=text, layers=LAYERS).model) == []


def ours(model: Any) -> list[Any]:
    """Everything of ours that hangs on a model."""
    found: list[Any] = [name for name in vars(model) if name in ("generate", "forward")]
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            found += [hook for hook in hooks.values() if "herovlm" in str(getattr(hook, "__module__", ""))]
    return found


def test_no_trace_sees_a_trace(small: tiny.Tiny, inputs: Any) -> None:
    with herovlm.dropping(small.model, method=SPEC):
        assert len(ours(small.model)) == 3 + 2 + LAYERS + 1  # the prompt; the model; its layers; one q_proj
    with api.shortened(small.model, inputs, method=SPEC):
        assert len(ours(small.model)) == 2 + LAYERS + 1


def test_restores_after_errors(small: tiny.Tiny, inputs: Any) -> None:
    before = small.model.generate(**inputs, **GREEDY)
    with pytest.raises(RuntimeError, match="boom"), herovlm.dropping(small.model, method=SPEC):
        raise RuntimeError("boom")

    def boom(module: Any, args: Any) -> None:
        raise RuntimeError("between the layers")

    with herovlm.dropping(small.model, method=SPEC) as record:
        want = small.model.generate(**inputs, **GREEDY)
        hook = small.model.model.language_model.layers[3].register_forward_pre_hook(boom)
        with pytest.raises(RuntimeError, match="between"):
            small.model.generate(**inputs, **GREEDY)
        hook.remove()
        assert record.inside == ()
        assert torch.equal(small.model.generate(**inputs, **GREEDY), want)
        with pytest.raises(InputsError):
            small.model.generate(**{**inputs, "input_ids": inputs["input_ids"][:, 9:]}, **GREEDY)
        with pytest.raises(ValueError, match="max_new_tokens"):
            small.model.generate(**inputs, max_new_tokens=-1)  # refused by transformers, when ours is armed
        words = small.processor.tokenizer("USER: hi ASSISTANT:", return_tensors="pt")
        assert small.model(**words).logits.shape[1] == words["input_ids"].shape[1]
        with herovlm.dropping(small.model, method="random", keep=0.5) as inner:
            small.model.generate(**inputs, **GREEDY)
        assert inner.inside == ()
        assert torch.equal(small.model.generate(**inputs, **GREEDY), want)
    assert torch.equal(small.model.generate(**inputs, **GREEDY), before)


def test_the_innermost_of_nested_contexts_counts(small: tiny.Tiny, inputs: Any) -> None:
    plain = small.model.generate(**inputs, **GREEDY)
    with herovlm.dropping(small.model, method=SPEC) as outer:
        first = small.model.generate(**inputs, **GREEDY)
        with herovlm.dropping(small.model, method="pyramiddrop", keep=0.6) as inner:
            small.model.generate(**inputs, **GREEDY)
            assert list(inner.inside[0].kept) == [1, 2, 4]
        with herovlm.dropping(small.model, method="full"):
            assert torch.equal(small.model.generate(**inputs, **GREEDY), plain)
        assert list(outer.inside[0].kept) == [2]
        assert torch.equal(small.model.generate(**inputs, **GREEDY), first)
    assert not torch.equal(first, plain)


def test_two_models_at_once(models: Any, inputs: Any) -> None:
    one, two = models(layers=LAYERS), models(text="qwen2", layers=LAYERS)
    with herovlm.dropping(one.model, method=SPEC) as first:
        alone = one.model.generate(**inputs, **GREEDY)
        with herovlm.dropping(two.model, method="full + pyramiddrop") as second:
            two.model.generate(**inputs, **GREEDY)
            assert torch.equal(one.model.generate(**inputs, **GREEDY), alone)
        assert ours(two.model) == []
    assert list(first.inside[0].kept) == [2]
    assert list(second.inside[0].kept) == [1, 2, 4]


def test_text_only_calls_pass(small: tiny.Tiny, inputs: Any) -> None:
    words = small.processor.tokenizer("USER: hi ASSISTANT:", return_tensors="pt")
    want = small.model.generate(**words, **GREEDY)
    with herovlm.dropping(small.model, method=SPEC) as record:
        assert torch.equal(small.model.generate(**words, **GREEDY), want)
        small.model.generate(**inputs, **GREEDY)
        assert torch.equal(small.model.generate(**words, **GREEDY, use_cache=False), want)
    assert len(record.inside) == 1


def test_a_prompt_shortened_once_is_read_again_and_again(small: tiny.Tiny, inputs: Any) -> None:
    with herovlm.dropping(small.model, method="random + fastv", keep=0.5):
        want = small.model.generate(**inputs, **GREEDY)[:, inputs["input_ids"].shape[1] :]
    with api.shortened(small.model, inputs, method="random + fastv", keep=0.5) as (short, record), torch.no_grad():
        for _ in range(2):
            cache = cache_in(small.model(**short, use_cache=True))
            lengths = [layer.keys.shape[2] for layer in cache.layers]
            left = short["input_ids"].shape[1] - record.inside[0].positions[0] + record.inside[0].positions[-1]
            assert lengths == [short["input_ids"].shape[1]] * 2 + [left] * 3
            new = small.model.generate(**short, **GREEDY)[:, short["input_ids"].shape[1] :]
            assert torch.equal(new, want)
    with api.shortened(small.model, inputs, method="random", keep=0.5) as (short, record):
        assert ours(small.model) == []
        assert record.inside == ()


def test_drop_sends_to_dropping(small: tiny.Tiny, inputs: Any) -> None:
    for method in ("hero + fastv", "fastv", FastV(keep=0.5)):
        with pytest.raises(UnsupportedError, match=r"herovlm\.dropping"):
            herovlm.drop(small.model, inputs, method=method)


REFUSED: dict[str, dict[str, Any]] = {
    "use_cache": {"use_cache": False},
    "prefill_chunk_size": {"prefill_chunk_size": 7},
    "prompt_lookup_num_tokens": {"prompt_lookup_num_tokens": 3},
    "StaticCache": {"cache_implementation": "static"},
    "OffloadedCache|plain DynamicCache": {"cache_implementation": "offloaded"},
}


@pytest.mark.parametrize("message", REFUSED)
def test_refuses_what_goes_wrong_in_generate(small: tiny.Tiny, inputs: Any, message: str) -> None:
    with herovlm.dropping(small.model, method=SPEC):
        with pytest.raises(UnsupportedError, match=message):
            small.model.generate(**inputs, **GREEDY, **REFUSED[message])
        with pytest.raises(UnsupportedError, match=message):
            small.model.generate(**inputs, generation_config=GenerationConfig(max_new_tokens=3, **REFUSED[message]))


def test_refuses_an_assistant(models: Any, small: tiny.Tiny, inputs: Any) -> None:
    with herovlm.dropping(small.model, method=SPEC), pytest.raises(UnsupportedError, match="assistant_model"):
        small.model.generate(**inputs, **GREEDY, assistant_model=models(seed=7).model)


def test_refuses_what_goes_wrong_in_a_call(small: tiny.Tiny, inputs: Any) -> None:
    full = DynamicCache()
    small.model(small.processor.tokenizer("hi", return_tensors="pt")["input_ids"], **{tiny.CACHE: full})
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("labels", {"labels": inputs["input_ids"]}),
        ("logits_to_keep", {"logits_to_keep": torch.tensor([3])}),
        ("no cache", {"use_cache": False}),
        ("past_key_values", {tiny.CACHE: full}),
        ("StaticCache", {tiny.CACHE: StaticCache(small.model.config, max_cache_len=300)}),
    ]
    with herovlm.dropping(small.model, method=SPEC):
        for message, options in wrong:
            with pytest.raises(UnsupportedError, match=message):
                small.model(**inputs, **options)


def test_refuses_a_prompt_in_pieces(small: tiny.Tiny, inputs: Any) -> None:
    with api.shortened(small.model, inputs, method=SPEC) as (short, _):
        longer = torch.cat([short["input_ids"], short["input_ids"][:, -1:]], 1)
        for ids in (longer, short["input_ids"][:, :-1]):
            with pytest.raises(UnsupportedError, match="as a whole"):
                small.model(input_ids=ids, mm_encoder_outputs=short["mm_encoder_outputs"])


def test_refuses_an_answer_that_does_not_fit_its_prompt(small: tiny.Tiny, inputs: Any) -> None:
    with torch.no_grad(), herovlm.dropping(small.model, method=SPEC):
        cache = cache_in(small.model(**inputs, use_cache=True))
        token = torch.tensor([[65], [66]])
        cache.batch_repeat_interleave(2)
        with pytest.raises(UnsupportedError, match="batch of 1"):
            small.model(input_ids=token, **{tiny.CACHE: cache})
        cache.batch_select_indices(torch.tensor([0]))
        cache.crop(-2)
        with pytest.raises(UnsupportedError, match="cropped"):
            small.model(input_ids=token[:1], **{tiny.CACHE: cache})


def test_refuses_a_window_that_slides(inputs: Any) -> None:
    small = tiny.make(text="mistral", layers=3)
    length = inputs["input_ids"].shape[1]
    small.model.config.text_config.sliding_window = length + 3
    with herovlm.dropping(small.model, method="fastv(layer=1, keep=0.5)"):
        small.model.generate(**inputs, max_new_tokens=3, do_sample=False)
        with pytest.raises(UnsupportedError, match="sliding window"):
            small.model.generate(**inputs, max_new_tokens=6, min_new_tokens=6, do_sample=False)
        small.model.config.text_config.sliding_window = length
        with pytest.raises(UnsupportedError, match="sliding window"):
            small.model.generate(**inputs, max_new_tokens=1, do_sample=False)


def test_refuses_language_models_that_were_never_verified(small: tiny.Tiny) -> None:
    def named(kind: str, how: str) -> Any:
        config = SimpleNamespace(model_type=kind, _attn_implementation=how)
        return SimpleNamespace(base_model=SimpleNamespace(language_model=SimpleNamespace(config=config)))

    for kind, how, message in (("gemma3_text", "sdpa", "gemma3_text"), ("llama", "flash_attention_2", "flash")):
        with pytest.raises(UnsupportedError, match=message):
            refuse.language_model(named(kind, how))


def test_refuses_a_compiled_model(inputs: Any) -> None:
    for part in ("layer", "language_model"):
        made = tiny.make(layers=3)
        language = made.model.model.language_model
        if part == "layer":
            language.layers[1].compile(backend="eager")
        else:
            made.model.model.language_model = torch.compile(language, backend="eager")
        with pytest.raises(UnsupportedError, match=r"torch\.compile"), herovlm.dropping(made.model, method=SPEC):
            pass


def test_notices_that_hooks_did_not_fire(small: tiny.Tiny, inputs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with herovlm.dropping(small.model, method=SPEC):
        for layer in small.model.model.language_model.layers:
            monkeypatch.setattr(layer, "_forward_pre_hooks", {})  # as in a model whose graph was made before
        with pytest.raises(UnsupportedError, match="hooks"):
            small.model.generate(**inputs, **GREEDY)
        monkeypatch.undo()


def test_notices_that_somebody_changed_the_prompt(small: tiny.Tiny, inputs: Any) -> None:
    inner = small.model.generate

    def theirs(input_ids: torch.Tensor, **kwargs: Any) -> Any:
        return inner(torch.cat([input_ids[:, :1], input_ids], 1), **{**kwargs, "attention_mask": None})

    small.model.generate = theirs
    try:
        with (
            herovlm.dropping(small.model, method=SPEC),
            pytest.raises(UnsupportedError, match="changed the prompt"),
        ):
            small.model.generate(**inputs, **GREEDY)
    finally:
        del small.model.generate


def test_options_are_checked_on_entry(small: tiny.Tiny) -> None:
    for method, error in ((f"fastv(layer={LAYERS})", MethodError), ("hero + fastv(keep=2.5)", MethodError)):
        with pytest.raises(error), herovlm.dropping(small.model, method=method):
            pass
    with (
        pytest.raises(UnsupportedError, match="renumbers"),
        herovlm.dropping(small.model, method="full + pyramiddrop(positions='code')", positions="original"),
    ):
        pass


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("hero(alpha=1) + vitcop_llm", MethodError, r"vitcop \+ vitcop_llm"),
        ("vitcop_llm", MethodError, r"vitcop \+ vitcop_llm"),
        ("todre_llm", BudgetError, r"full \+ todre_llm"),
        ("pyramiddrop", BudgetError, r"use keep >= 0\.2091"),
    ],
)
def test_what_cannot_be_is_explained(
    small: tiny.Tiny, inputs: Any, spec: str, error: type[Exception], message: str
) -> None:
    with herovlm.dropping(small.model, method=spec, keep=0.2), pytest.raises(error, match=message):
        small.model.generate(**inputs, **GREEDY)
