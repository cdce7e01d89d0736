"""Pruning inside an unmodified model equals the model with the pruned columns hidden, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import reference
import tiny
import torch
from transformers import DynamicCache

import herovlm
from herovlm.methods.inside.base import Inside
from herovlm.seams.compat import cache_in
from herovlm.types import Cut, NeedsInside, SeenInside

LAYERS = 5
NEVER = {"eos_token_id": 10_000, "pad_token_id": 0}  # no sequence ends early
GREEDY = {"max_new_tokens": 6, "do_sample": False, **NEVER}
SPECS = [
    "fastv(layer=2, keep=0.4)",
    "full + pyramiddrop",
    "vitcop(layer=2) + vitcop_llm",
    "hero(alpha=1) + todre_llm(threshold=1.0)",
    "uniform + sparsevlm",
    "full + sparsevlm_plus(heads=2)",
    "tops + tops_llm(layers=(1, 3), positions='true')",
]
MODELS = [
    ("llava_next", "llama", "sdpa"),
    ("llava_next", "mistral", "sdpa"),
    ("llava_next", "qwen2", "sdpa"),
    ("llava_next", "llama", "eager"),
    ("llava", "llama", "sdpa"),
]


@pytest.fixture
def small(models: Any) -> tiny.Tiny:
    return models(layers=LAYERS)


@dataclass(frozen=True, kw_only=True)
class Everything(Inside):
    """Looks at all there is before each layer and keeps everything."""

    name = "everything"
    paper = "baseline"
    fidelity = "baseline"
    formula = "kept = everything"

    def needs(self, depth: int) -> dict[int, NeedsInside]:
        return {
            at: NeedsInside(True, True, True, True, True, True, True, heads=True, turned=True) for at in range(1, depth)
        }

    def counts(self, positions: int, depth: int) -> tuple[int, ...]:
        return (positions,) * (depth - 1)

    def choose(self, look: SeenInside) -> Cut:
        return Cut(torch.arange(len(look.visual)))


def one(small: tiny.Tiny) -> Any:
    return small.inputs([[tiny.picture(60, 31)]], ["USER: <image>\nWhat is this? ASSISTANT:"])


def batch(small: tiny.Tiny) -> Any:
    """Three prompts of different lengths: two images, one, none."""
    pictures = [[tiny.picture(20, 60), tiny.picture(33, 33, 1)], [tiny.picture(60, 31)], []]
    texts = ["USER: <image> or <image>\nWhich? ASSISTANT:", "USER: <image>\nWhat is it? ASSISTANT:", "USER: Hi"]
    return small.inputs(pictures, texts)


@pytest.mark.parametrize("inputs_of", [one, batch])
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(("family", "text", "attention"), MODELS)
def test_equals_the_reference(
    models: Any, monkeypatch: pytest.MonkeyPatch, family: str, text: str, attention: str, spec: str, inputs_of: Any
) -> None:
    small = models(family, text=text, attention=attention, layers=LAYERS)
    inputs = inputs_of(small)
    with reference.spied(monkeypatch) as seen, herovlm.dropping(small.model, method=spec, keep=0.6) as record:
        with torch.no_grad():
            got = small.model(**inputs).logits[:, -1]
        cuts, short = [*seen], record.last
        tokens = small.model.generate(**inputs, **GREEDY)[:, inputs["input_ids"].shape[1] :]
    assert short is not None
    assert cuts
    want = reference.logits(small.model, short, cuts, tokens[:, :0])
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-5)
    assert torch.equal(tokens, reference.greedy(small.model, short, cuts, GREEDY["max_new_tokens"]))
    with torch.no_grad():
        plain = small.model(**short).logits[:, -1]
    assert (got - plain).abs().amax(-1)[:2].min() > 1e-2  # the reference tells cutting from not cutting


@pytest.mark.parametrize("text", ["llama", "qwen2"])
def test_a_method_is_shown_what_the_model_computes(models: Any, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    small = models(text=text, layers=LAYERS)
    inputs = batch(small)
    with reference.spied(monkeypatch) as seen, herovlm.dropping(small.model, method=Everything()), torch.no_grad():
        small.model(**inputs)
    eager = models(text=text, attention="eager", layers=LAYERS).model  # the same weights
    cache = DynamicCache()
    with torch.no_grad():
        wanted = {"output_attentions": True, "output_hidden_states": True}
        plain = eager(**inputs, **{tiny.CACHE: cache}, use_cache=True, **wanted)
    assert [look.layer for look, _ in seen] == [at for at in range(1, LAYERS) for _ in range(2)]
    for number, (look, _) in enumerate(seen):
        row, at = number % 2, look.layer
        real = inputs["attention_mask"][row].nonzero().flatten()
        visual = (inputs["input_ids"][row, real] == small.model.config.image_token_id).nonzero().flatten()
        words = torch.tensor([c for c in range(len(real)) if c > visual[0] and c not in visual.tolist()])
        attention = plain.attentions[at - 1][row][:, real][:, :, real]
        to_come = plain.attentions[at][row][:, real[-1], real]
        query, keys = look.ahead
        logits = torch.einsum("hc,hnc->hn", query, keys.repeat_interleave(len(query) // len(keys), 0))
        assert torch.equal(look.visual, visual)
        assert look.image.tolist() == sorted(look.image.tolist())
        assert len(set(look.image.tolist())) == len(look.granted) == 2 - row
        for got, want in (
            (look.last, attention[:, -1]),
            (look.text, attention.mean(0)[words]),
            (look.heads, attention[:, words]),
            (look.turned @ look.turned.T, unturned(len(real), small.model.config.text_config)),
            (look.back, attention.mean(0)[visual][:, words].sum(1)),
            (look.keys, cache.layers[at - 1].keys[row][:, real]),
            ((logits * query.shape[1] ** -0.5).softmax(-1), to_come),
            (look.states, plain.hidden_states[at][row, real]),
            (look.entered[0], plain.hidden_states[0][row, real[visual]]),
            (look.entered[1], plain.hidden_states[0][row, real[words]]),
        ):
            torch.testing.assert_close(got, want, atol=1e-4 * max(1, float(want.abs().max())), rtol=1e-5)
        assert (look.back > 0).any() == (row == 0)  # only the second image of two stands behind text


def unturned(columns: int, config: Any) -> torch.Tensor:
    """Products of vectors of ones that are rotated by their positions: they know the distance alone."""
    channels = config.hidden_size // config.num_attention_heads
    apart = torch.arange(float(columns))[:, None] - torch.arange(float(columns))
    speeds = config.rope_parameters["rope_theta"] ** (-torch.arange(0.0, channels, 2) / channels)
    return 2 * (apart[..., None] * speeds).cos().sum(-1)


@pytest.mark.parametrize("spec", [*SPECS, "fastv", "hero + fastv", "pyramiddrop(positions='code')"])
def test_keep_all_is_the_untouched_model(small: tiny.Tiny, spec: str) -> None:
    inputs = batch(small)
    want = small.model.generate(**inputs, **GREEDY)
    if not spec.startswith("full"):
        with herovlm.dropping(small.model, method=spec, keep=1.0) as record:
            assert torch.equal(small.model.generate(**inputs, **GREEDY), want)
            assert torch.equal(small.model(**inputs).logits, small.model(**inputs).logits)
        assert record.inside == ()
    with herovlm.dropping(small.model, method=Everything()):
        assert torch.equal(small.model.generate(**inputs, **GREEDY), want)


def test_behind_full_pruning_goes_on_whatever_keep_is(small: tiny.Tiny) -> None:
    for keep in (1.0, 0.2):
        with herovlm.dropping(small.model, method="full + fastv", keep=keep) as record:
            small.model.generate(**one(small), **GREEDY)
        assert record.last is not None
        assert record.inside[0].positions[0] == record.last.seen[0].positions
        assert record.inside[0].positions[-1] == round(0.5 * record.last.seen[0].positions)


@pytest.mark.parametrize("spec", ["fastv(keep=1.0)", "full + pyramiddrop(keep=1.0)"])
def test_keeping_all_inside_is_the_untouched_model_too(small: tiny.Tiny, spec: str) -> None:
    inputs = batch(small)
    want = small.model.generate(**inputs, **GREEDY)
    with herovlm.dropping(small.model, method=spec):
        assert torch.equal(small.model.generate(**inputs, **GREEDY), want)


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        ("fastv", {"keep": 0.6}),
        ("hero(alpha=1) + pyramiddrop", {"tokens": 30}),
        ("sparsevlm", {"tokens": 50}),
    ],
)
@pytest.mark.parametrize("inputs_of", [one, batch])
def test_the_cache_holds_what_the_record_says(small: tiny.Tiny, spec: str, asked: Any, inputs_of: Any) -> None:
    inputs = inputs_of(small)
    with herovlm.dropping(small.model, method=spec, **asked) as record, torch.no_grad():
        cache = cache_in(small.model(**inputs, use_cache=True))
    assert record.last is not None
    short, text = record.last, small.model.config.text_config
    words = (short["input_ids"] != small.model.config.image_token_id) & (short["attention_mask"] == 1)
    images = [[kept.positions for kept in record.inside]] if len(words) == 1 else None
    rows = images or [[k.positions for k in record.inside[:2]], [record.inside[2].positions], [(0,) * LAYERS]]
    channels = text.hidden_size // text.num_attention_heads
    for number, layer in enumerate(cache.layers):
        columns = max(int(w.sum()) + sum(p[number] for p in counts) for w, counts in zip(words, rows, strict=True))
        assert layer.keys.shape == layer.values.shape == (len(words), text.num_key_value_heads, columns, channels)
        assert layer.keys.numel() * 4 == len(words) * text.num_key_value_heads * columns * channels * 4
    assert cache.layers[-1].keys.shape[2] < cache.layers[0].keys.shape[2]


def test_alone_each_image_has_a_mean_of_its_own(small: tiny.Tiny) -> None:
    inputs = batch(small)
    with herovlm.dropping(small.model, method="fastv(layer=1)", keep=[0.9, 0.5, 0.7]) as record:
        small.model.generate(**inputs, **GREEDY)
    assert record.last is not None
    for seen, inside, keep in zip(record.last.seen, record.inside, (0.9, 0.5, 0.7), strict=True):
        assert abs(inside.mean - keep * seen.positions) < 1
    with (
        pytest.raises(herovlm.BudgetError, match="2 values for 3 images"),
        herovlm.dropping(small.model, method="fastv(layer=1)", keep=[0.9, 0.5]),
    ):
        small.model.generate(**inputs, **GREEDY)


def test_alone_the_mean_over_the_layers_is_what_was_asked_for(small: tiny.Tiny) -> None:
    with herovlm.dropping(small.model, method="fastv(layer=1)", keep=0.6) as record:
        small.model.generate(**batch(small), **GREEDY)
    assert record.last is not None
    for seen, kept in zip(record.last.seen, record.inside, strict=True):
        assert kept.positions[0] == seen.positions
        assert round(0.6 * seen.positions) - 1 < kept.mean <= round(0.6 * seen.positions)
    with (
        herovlm.dropping(small.model, method="fastv(layer=2)", keep=0.3),
        pytest.raises(herovlm.BudgetError, match=r"keep >= 0\.4\d"),
    ):
        small.model.generate(**batch(small), **GREEDY)


@pytest.mark.parametrize("positions", ["true", "code"])
def test_the_record_names_positions_that_reached_the_model(
    small: tiny.Tiny, monkeypatch: pytest.MonkeyPatch, positions: str
) -> None:
    with (
        reference.spied(monkeypatch) as seen,
        herovlm.dropping(
            small.model, method=f"uniform + sparsevlm(layers=(1, 2, 4), positions={positions!r})", keep=0.7
        ) as record,
    ):
        small.model.generate(**batch(small), **GREEDY)
    assert record.last is not None
    assert [k.positions[0] for k in record.inside] == [k.positions for k in record.last.kept]
    for kept in record.inside:
        assert list(kept.kept) == list(kept.merged) == [1, 2, 4]
        assert kept.positions == tuple(len(kept.kept[a]) if a else kept.positions[0] for a in (0, 1, 2, 2, 4))
        assert {*kept.kept[4].tolist()} <= {*kept.kept[2].tolist()} <= {*kept.kept[1].tolist()}
        assert kept.merged[1].any()
        assert all(torch.equal(one, one.sort().values) for one in kept.kept.values())
    first, cut = seen[0]  # the first prompt, both of its images
    count = record.inside[0].positions[0]
    assert torch.equal(cut.keep[look_image(first, cut, 0)].sort().values, record.inside[0].kept[1])
    assert torch.equal(cut.keep[look_image(first, cut, 1)].sort().values - count, record.inside[1].kept[1])
    assert cut.merged is not None
    for image, start in ((0, 0), (1, count)):
        joined = record.inside[image].kept[1][record.inside[image].merged[1]] + start
        assert {*joined.tolist()} == {*cut.keep[cut.merged & look_image(first, cut, image)].tolist()}


def look_image(look: SeenInside, cut: Cut, image: int) -> torch.Tensor:
    return look.image[cut.keep] == image


@pytest.mark.parametrize("spec", ["fastv(layer=2, keep=0.3)", "full + pyramiddrop"])
def test_beams_equal_beams_of_the_reference(small: tiny.Tiny, monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    inputs, length = small.inputs([[tiny.picture(33, 33)]], ["USER: <image>\nWhat is this? ASSISTANT:"]), 5
    with reference.spied(monkeypatch) as seen, herovlm.dropping(small.model, method=spec) as record:
        small.model.generate(**inputs, max_new_tokens=1, **NEVER)
        cuts, short = [*seen], record.last
        seen.clear()
        got = small.model.generate(**inputs, num_beams=3, max_new_tokens=length, do_sample=False, **NEVER)
        assert len(seen) == len(cuts), "beams of one prompt are one prompt"
        several = small.model.generate(**batch(small), num_beams=3, max_new_tokens=length, do_sample=False, **NEVER)
        together = record.inside
        second = small.inputs([[tiny.picture(60, 31)]], ["USER: <image>\nWhat is it? ASSISTANT:"])
        alone = small.model.generate(**second, num_beams=3, max_new_tokens=length, do_sample=False, **NEVER)
    assert short is not None
    want = reference.beams(small.model, short, cuts, length, 3)
    assert torch.equal(got[:, inputs["input_ids"].shape[1] :], want)
    assert not torch.equal(want, reference.greedy(small.model, short, cuts, length))
    assert torch.equal(several[1, -length:], alone[0, -length:])
    assert torch.equal(together[2].kept[2], record.inside[0].kept[2])


def test_several_sequences_of_one_prompt(small: tiny.Tiny) -> None:
    options = {"do_sample": True, "num_return_sequences": 3, "top_k": 1, "max_new_tokens": 6, **NEVER}
    inputs = batch(small)
    with herovlm.dropping(small.model, method="hero(alpha=1) + fastv", keep=0.5) as record:
        want = small.model.generate(**inputs, **GREEDY)
        got = small.model.generate(**inputs, **options)
    assert torch.equal(got, want.repeat_interleave(3, 0))
    assert len(record.inside) == 3


def test_a_loop_of_ones_own(small: tiny.Tiny) -> None:
    inputs = batch(small)
    with torch.no_grad(), herovlm.dropping(small.model, method="random + fastv", keep=0.5) as record:
        want = small.model.generate(**inputs, **GREEDY)[:, inputs["input_ids"].shape[1] :]
        out = small.model(**inputs, use_cache=True)
        assert record.last is not None
        mask, cache, new = record.last["attention_mask"], cache_in(out), []
        for _ in range(GREEDY["max_new_tokens"]):
            new.append(out.logits[:, -1].argmax(-1, keepdim=True))
            mask = torch.cat([mask, torch.ones_like(new[-1])], 1)
            out = small.model(input_ids=new[-1], attention_mask=mask, **{tiny.CACHE: cache})
        two = cache_in(small.model(**inputs, use_cache=True))
        together = small.model(input_ids=torch.cat(new[:3], 1), attention_mask=mask[:, :-3], **{tiny.CACHE: two})
        assert torch.equal(together.logits.argmax(-1), torch.cat(new[1:4], 1))  # several tokens in one pass
    assert torch.equal(torch.cat(new, 1), want)


def test_original_positions(small: tiny.Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chained behind a method that keeps the first patches of each image, whose positions have no gaps before them."""
    inputs = one(small)
    with herovlm.dropping(small.model, method="full + fastv", positions="original"):
        original = small.model.generate(**inputs, **GREEDY)
    with herovlm.dropping(small.model, method="full + fastv"):
        assert torch.equal(small.model.generate(**inputs, **GREEDY), original)
    with herovlm.dropping(small.model, method="random + fastv", keep=0.5, positions="original"):
        gaps = small.model.generate(**inputs, **GREEDY)
    assert not torch.equal(gaps, original)


@pytest.mark.parametrize(
    "spec",
    [
        "pyramiddrop(layers=(1, 2, 3), positions='code')",
        "sparsevlm(layers=(1, 2, 3), positions='code')",
        "tops_llm(layers=(1, 3))",
        "vitcop + vitcop_llm(positions='code')",
    ],
)
def test_positions_as_in_the_authors_code(small: tiny.Tiny, spec: str) -> None:
    """PyramidDrop, SparseVLM and TOPS renumber everything behind a cut, ViTCoP only the prompt behind its second."""
    given: dict[int, list[Any]] = {}

    def watch(at: int) -> Any:
        return lambda _m, _a, kw: given.setdefault(at, []).append(kw["position_ids"][0].tolist())

    with herovlm.dropping(small.model, method="full + " * ("+" not in spec) + spec, keep=0.9) as record:
        layers = enumerate(small.model.model.language_model.layers)
        hooks = [layer.register_forward_pre_hook(watch(at), with_kwargs=True) for at, layer in layers]
        out = small.model.generate(**one(small), **GREEDY, return_dict_in_generate=True)
        for hook in hooks:
            hook.remove()
    assert record.last is not None
    length = record.last["input_ids"].shape[1]
    for at, layer in enumerate(cache_in(out).layers):
        columns = layer.keys.shape[2] - GREEDY["max_new_tokens"] + 1
        if "vitcop" not in spec:
            assert given[at][0] == list(range(columns))
            assert given[at][1] == [columns]
        else:
            assert given[at][1] == [length]
            assert (given[at][0][-1] < length - 1) == (at >= 3)


@pytest.mark.parametrize("spec", SPECS)
def test_bfloat16(small: tiny.Tiny, spec: str) -> None:
    inputs = batch(small)
    half = tiny.make(layers=LAYERS)
    half.model.bfloat16()
    with herovlm.dropping(small.model, method=spec, keep=0.6) as fine:
        small.model.generate(**inputs, **GREEDY)
    with torch.inference_mode(), herovlm.dropping(half.model, method=spec, keep=0.6) as coarse:
        out = half.model.generate(**inputs, **GREEDY, output_logits=True, return_dict_in_generate=True)
    assert [kept.positions for kept in coarse.inside] == [kept.positions for kept in fine.inside]
    assert all(layer.keys.dtype == torch.bfloat16 for layer in cache_in(out).layers)
    assert all(logits.isfinite().all() for logits in out.logits)
