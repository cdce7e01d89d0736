"""Cross-attention to what was dropped: what is true of it, whatever it has learned."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_models
import torch
from tree import need_demo_model

import herovlm
from herovlm import api, auto, demo
from herovlm.demo import scenes
from herovlm.errors import ModelError, SetupError, UnsupportedError, UsageError
from herovlm.eval.likelihood import forced
from herovlm.modules import stored
from herovlm.modules.cross_attention import CrossAttention, Shape, even
from herovlm.prompt.template import prompt

LAYERS = 5
WORDS = ("USER: <image>\nWhat is this? ASSISTANT:", "USER: <image>\n<image>\nWhich? ASSISTANT:", "USER: hi ASSISTANT:")
PICTURES = ([tiny.picture(33, 33)], [tiny.picture(48, 16, 1), tiny.picture(20, 33, 2)], [])
HOW = {"do_sample": False, "max_new_tokens": 6}
KEEP = {"keep": 0.3, "question": "What?"}


@pytest.fixture(scope="module")
def small(models: Any) -> tiny.Tiny:
    return models(layers=LAYERS)


@pytest.fixture(autouse=True)
def no_trace(small: tiny.Tiny) -> Iterator[None]:
    """Every test of this file leaves the model as it found it."""
    yield
    assert "generate" not in vars(small.model)
    every = [
        hook for m in small.model.modules() for hook in (*m._forward_pre_hooks.values(), *m._forward_hooks.values())
    ]
    assert [hook for hook in every if "herovlm" in type(hook).__module__] == []


def written(folder: Path, model: Any, gate: float, **changed: Any) -> str:
    """Write random parts for a model; their gates are all alike.  Return the spec."""
    torch.manual_seed(3)
    hidden = model.config.get_text_config().hidden_size
    parts = CrossAttention(Shape(**{"hidden": hidden, "layers": even(LAYERS), "width": 16, "heads": 2} | changed))
    with torch.no_grad():
        for name, weight in parts.named_parameters():
            weight.fill_(gate) if name.endswith("gate") else weight.add_(torch.randn_like(weight) * 0.2)
    stored.save(folder, stored.Stored(parts, "dropped", auto.fingerprint(model), {}))
    return f"uniform + age_vlm(weights={str(folder)!r})"


@pytest.fixture
def spec(small: tiny.Tiny, tmp_path: Path) -> str:
    return written(tmp_path / "open", small.model, 0.8)


def logits(model: Any, inputs: Any, spec: str, **asked: Any) -> torch.Tensor:
    with torch.no_grad(), api.shortened(model, inputs, method=spec, **{**KEEP, **asked}) as (short, _):
        return model(**short).logits


def batch(small: tiny.Tiny, rows: list[int], side: str = "left") -> Any:
    return small.inputs([PICTURES[row] for row in rows], [WORDS[row] for row in rows], side)


def test_closed_gates_are_the_plain_model_bit_for_bit(small: tiny.Tiny, tmp_path: Path) -> None:
    spec, inputs = written(tmp_path / "shut", small.model, 0.0), batch(small, [0, 1, 2])
    assert torch.equal(logits(small.model, inputs, spec), logits(small.model, inputs, "uniform"))
    open_ = written(tmp_path / "open", small.model, 0.8)
    assert not torch.allclose(
        logits(small.model, inputs, open_)[0], logits(small.model, inputs, "uniform")[0], atol=1e-3
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_prompt_reads_the_same_alone_and_among_others(small: tiny.Tiny, spec: str, side: str) -> None:
    inputs = batch(small, [0, 1, 2], side)
    with api.shortened(small.model, inputs, method=spec, **KEEP) as (short, _):
        real = short["attention_mask"].bool()
        together = small.model(**short).logits
    for row in range(3):
        alone = logits(small.model, batch(small, [row], side), spec)[0]
        assert torch.allclose(together[row][real[row]], alone, atol=1e-3)
    plain = logits(small.model, inputs, "uniform")
    assert torch.equal(together[2][real[2]], plain[2][real[2]]), "who has no picture has nothing to look up"


def test_what_is_left_out_counts_and_what_pads_does_not(small: tiny.Tiny, spec: str) -> None:
    with api.shortened(small.model, batch(small, [0, 1, 2]), method=spec, **KEEP) as (short, record):
        left = [int(seen.valid.sum() - kept.mask.sum()) for seen, kept in zip(short.seen, short.kept, strict=True)]
        assert record.did[1].tokens == [left[0], left[1] + left[2], 0]
        assert sum(int((~seen.valid).sum()) for seen in short.seen) > 0, "some of the tiles are padding"
    with api.shortened(small.model, batch(small, [0]), method=spec[:-1] + ", memory=all)", **KEEP) as (short, record):
        assert record.did[1].tokens == [int(short.seen[0].valid.sum())]


def test_the_memory_stays_while_the_answer_is_written(small: tiny.Tiny, spec: str) -> None:
    inputs = batch(small, [0, 1])
    for beams in ({}, {"num_beams": 3}):
        with herovlm.dropping(small.model, method=spec, **KEEP):
            cached = small.model.generate(**inputs, **HOW, **beams)
            assert torch.equal(small.model.generate(**inputs, **HOW, **beams, use_cache=False), cached)
    with herovlm.dropping(small.model, method="uniform", **KEEP):
        assert not torch.equal(small.model.generate(**inputs, **HOW), cached)


def test_where_all_is_kept_nothing_is_changed(small: tiny.Tiny, spec: str) -> None:
    inputs = batch(small, [0, 1])
    plain = small.model.generate(**inputs, **HOW)
    with herovlm.dropping(small.model, method=spec, keep=1.0):
        assert torch.equal(small.model.generate(**inputs, **HOW), plain)
    with herovlm.decoding(small.model, spec.partition(" + ")[2], method="full"):
        assert torch.equal(small.model.generate(**inputs, **HOW), plain)


def test_after_an_error_the_model_is_as_it_was(small: tiny.Tiny, spec: str) -> None:
    inputs = batch(small, [0])

    def boom(module: Any, args: Any) -> None:
        raise RuntimeError("between the layers")

    plain = small.model.generate(**inputs, **HOW)
    with herovlm.dropping(small.model, method=spec, **KEEP):
        want = small.model.generate(**inputs, **HOW)
        hook = small.model.model.language_model.layers[3].register_forward_pre_hook(boom)
        with pytest.raises(RuntimeError, match="between"):
            small.model.generate(**inputs, **HOW)
        hook.remove()
        assert torch.equal(small.model.generate(**inputs, **HOW), want)
    assert torch.equal(small.model.generate(**inputs, **HOW), plain)


def test_contexts_may_overlap_and_the_inner_one_counts(small: tiny.Tiny, spec: str, tmp_path: Path) -> None:
    inputs, other = batch(small, [0]), written(tmp_path / "other", small.model, -0.8)

    def alone(spec: str) -> torch.Tensor:
        with herovlm.dropping(small.model, method=spec, **KEEP):
            return small.model.generate(**inputs, **HOW)

    want = [alone(spec), alone(other)]
    assert not torch.equal(*want)
    outer, inner = (herovlm.dropping(small.model, method=one, **KEEP) for one in (spec, other))
    outer.__enter__()
    inner.__enter__()
    assert torch.equal(small.model.generate(**inputs, **HOW), want[1])
    outer.__exit__(None, None, None)
    assert torch.equal(small.model.generate(**inputs, **HOW), want[1])
    inner.__exit__(None, None, None)


def test_threads_look_up_what_is_theirs(small: tiny.Tiny, spec: str) -> None:
    found: dict[int, torch.Tensor] = {}

    def answer(row: int) -> None:
        found[row] = small.model.generate(**batch(small, [row]), **HOW)

    with herovlm.dropping(small.model, method=spec, **KEEP):
        want = [small.model.generate(**batch(small, [row]), **HOW) for row in range(2)]
        threads = [threading.Thread(target=answer, args=(row,)) for row in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(torch.equal(found[row], want[row]) for row in range(2))


@pytest.mark.parametrize("family", ["llava", "internvl", "qwen2_5_vl"])
def test_other_families_read_it_too(tmp_path: Path, family: str) -> None:
    other = tiny_models.load(family)
    depth = other.model.config.get_text_config().num_hidden_layers
    spec = written(tmp_path, other.model, 0.8, layers=tuple(range(depth)))
    inputs = other.inputs([[tiny.picture(120, 90)]])
    few = logits(other.model, inputs, "uniform")
    assert not torch.allclose(logits(other.model, inputs, spec), few, atol=1e-4)


def test_parts_of_another_model_are_refused(small: tiny.Tiny, models: Any, tmp_path: Path) -> None:
    def refused(error: type[Exception], match: str, spec: str, model: Any = small.model) -> None:
        with pytest.raises(error, match=match), herovlm.dropping(model, method=spec):
            raise AssertionError("opened")

    refused(ModelError, "of width 24", written(tmp_path / "wide", small.model, 0.1, hidden=24))
    refused(ModelError, "before layers 1, 9", written(tmp_path / "deep", small.model, 0.1, layers=(1, 9)))
    refused(
        ModelError, "other weights", written(tmp_path / "open", small.model, 0.1), models("llava", layers=LAYERS).model
    )
    refused(UsageError, "is no folder", "hero + age_vlm(weights='nowhere')")
    broken = written(tmp_path / "broken", small.model, 0.1)
    (tmp_path / "broken" / stored.FILE).write_bytes(b"nothing")
    refused(SetupError, "holds no cross-attention", broken)
    refused(UnsupportedError, "another picture", broken.replace("uniform", "downsample"))


def test_the_parts_that_come_along_are_small_and_help_the_demo_model() -> None:
    need_demo_model()
    model, processor = demo.load()
    assert sum(file.stat().st_size for file in stored.folder_of("age_vlm").iterdir()) <= 1.5e6
    logs = {"hero": 0.0, "hero + age_vlm": 0.0}
    for seed in (0, 1, 2):
        scene = scenes.make(seed)
        asked = [one.text for one in scene.questions]
        texts = [prompt(processor, text) for text in asked]
        answers = [processor.tokenizer(f" {q.answer}", add_special_tokens=False).input_ids for q in scene.questions]
        given = {"return_tensors": "pt", "padding": True, "padding_side": "left"}
        inputs = processor(images=[[scene.image]] * len(texts), text=texts, **given)
        for spec in logs:
            with api.shortened(model, inputs, method=spec, keep=0.05, question=asked) as (short, _):
                logs[spec] += float(forced(model, short, answers, model.generation_config.eos_token_id)[1].sum())
    assert logs["hero + age_vlm"] > logs["hero"], "right answers are likelier with what was dropped"
