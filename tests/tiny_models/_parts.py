"""What the tiny models share: a tokenizer of bytes, a small language model, and weights that differ clearly."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"]
QWEN += ["<|image_pad|>", "<|video_pad|>"]


def chatml(image: str, system: str = "", answer: str = "") -> str:
    """How Qwen and those who follow it write a chat: what shows an image, what opens the chat and an answer."""
    opening = f"<|im_start|>system\\n{system}<|im_end|>\\n" if system else ""
    return (
        "{% for message in messages %}"
        "{% if loop.first and message['role'] != 'system' %}{{ '" + opening + "' }}{% endif %}"
        "{{ '<|im_start|>' + message['role'] + '\n' }}"
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}{{ '" + image + "' }}"
        "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
        "{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n" + answer + "' }}{% endif %}"
    )


def words(special: list[str], pad: str, eos: str, bos: str | None = None, **named: str) -> PreTrainedTokenizerFast:
    """Byte-level, one token a byte, and the special tokens of a family; `named` go to the tokenizer's attributes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(special + alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token=pad,
        eos_token=eos,
        bos_token=bos,
        extra_special_tokens=named,
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
    )


def text(tokenizer: PreTrainedTokenizerFast, **more: Any) -> dict[str, Any]:
    """Configure a small language model."""
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 8192,
        "tie_word_embeddings": False,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        **more,
    }


def spread(model: Any, seed: int) -> Any:
    """Draw the weights anew, large enough that attention peaks, logits differ and answers do not repeat one token."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=g)
            if weight.ndim == 1 and ("norm" in name or "lambda" in name):  # ones, or zeros where one is added
                weight.add_(0.1 * noise + ("q_norm" in name or "k_norm" in name))
            elif name.endswith("A_log"):  # linear attention forgets slowly
                weight.copy_(noise - 3)
            elif "embed" in name and "patch" not in name:  # of tokens and of places
                weight.copy_(noise)
            elif weight.ndim >= 2:
                inner = weight.shape[-1] if "experts" in name else weight[0].numel()
                weight.copy_(noise * 2 / inner**0.5)
            else:
                weight.copy_(0.1 * noise)
    return model.eval()


def mrope(model: Any, inputs: Any) -> torch.Tensor:
    """How an untouched model numbers a prompt and its pictures: by time, row and column."""
    names = ("input_ids", "mm_token_type_ids", "image_grid_thw", "attention_mask")
    found: torch.Tensor = model.base_model.get_rope_index(**{name: inputs.get(name) for name in names})[0]
    return found
