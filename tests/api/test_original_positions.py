"""positions="original" is masking, or it is refused: windows that count columns, and positions from elsewhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from test_oracle import dropped
from transformers import AutoConfig, AutoModel

import herovlm
from herovlm import UnsupportedError
from herovlm.seams import refuse

SLIDING = {
    "mistral": {},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 0},
    "gemma3_text": {},
    "cohere2": {},
}
OTHERS = {
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512},
    "falcon": {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "alibi": True},
}
NEW = 3


def made(kind: str, window: int | None) -> tiny.Tiny:
    """A tiny LLaVA on a language model with a sliding window."""
    with pytest.MonkeyPatch.context() as patch:
        more = {**SLIDING.get(kind, {}), **({} if window is None else {"sliding_window": window})}
        plain = tiny.text_config

        def configure(kind: str, vocab: int, layers: int = 2) -> Any:
            return plain(kind, vocab, layers, **more)

        patch.setattr(tiny, "text_config", configure)
        return tiny.make("llava", text=kind)


def inputs_of(small: tiny.Tiny) -> Any:
    return small.inputs([[tiny.picture(60, 31)]], ["USER: <image>\nWhat is this? ASSISTANT:"])


@pytest.mark.parametrize("kind", SLIDING)
def test_a_window_that_holds_everything_is_masking(kind: str) -> None:
    length = inputs_of(made(kind, None))["input_ids"].shape[1]
    small = made(kind, length)
    inputs = inputs_of(small)
    assert small.model.config.text_config.sliding_window == length
    short = herovlm.drop(small.model, inputs, method="random", keep=0.3, positions="original")
    masked = {**inputs, "attention_mask": inputs["attention_mask"] * ~dropped(small, inputs, short)}
    masked["position_ids"] = torch.arange(length)[None]
    with torch.no_grad():
        got, want, plain = (small.model(**each).logits[:, -1] for each in (short, masked, inputs))
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)
    assert (got - plain).abs().max() > 1e-2


@pytest.mark.parametrize("kind", SLIDING)
def test_a_window_that_slides_is_refused(kind: str) -> None:
    length = inputs_of(made(kind, None))["input_ids"].shape[1]
    small = made(kind, length - 1)
    inputs = inputs_of(small)
    with pytest.raises(UnsupportedError, match="sliding window"):
        herovlm.drop(small.model, inputs, method="random", keep=0.3, positions="original")
    whole = herovlm.drop(small.model, inputs, method="random", keep=1.0, positions="original")
    with torch.no_grad():
        assert torch.equal(small.model(**whole).logits, small.model(**inputs).logits)
    herovlm.drop(small.model, inputs, method="random", keep=0.3)  # compact makes no such promise


def test_the_answer_counts_too() -> None:
    length = inputs_of(made("mistral", None))["input_ids"].shape[1]
    small = made("mistral", length + NEW)
    with herovlm.dropping(small.model, method="random", keep=0.3, positions="original"):
        small.model.generate(**inputs_of(small), max_new_tokens=NEW)
        with pytest.raises(UnsupportedError, match="prompt and answer"):
            small.model.generate(**inputs_of(small), max_new_tokens=NEW + 1)


@pytest.mark.parametrize("kind", OTHERS)
def test_positions_that_are_not_from_position_ids_are_refused(kind: str) -> None:
    config = AutoConfig.for_model(kind, vocab_size=50, **OTHERS[kind])
    language = AutoModel.from_config(config)
    with pytest.raises(UnsupportedError, match="ALiBi"):
        refuse.original_positions(
            SimpleNamespace(base_model=SimpleNamespace(language_model=language), config=config), 9
        )


def test_layers_that_are_no_attention_are_refused(models: Any) -> None:
    small = tiny.make("llava")
    small.model.config.text_config.layer_types = ["linear_attention", "full_attention"]
    with pytest.raises(UnsupportedError, match="linear_attention"):
        herovlm.drop(small.model, inputs_of(small), method="random", keep=0.3, positions="original")
