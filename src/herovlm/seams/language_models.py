"""What language models can take: cuts between their layers, and prompts of a length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from herovlm.errors import InputsError, UnsupportedError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NUMBERED = ("qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text")  # by row and column (M-RoPE)
VERIFIED = ("llama", "mistral", "qwen2", *NUMBERED)
_LINEAR = "three of four layers are linear attention, whose state goes over all columns: cutting there is not masking"
UNFIT = {
    "qwen3_5_text": _LINEAR,
    "qwen3_5_moe_text": _LINEAR,
    "gemma3_text": "its layers have masks and rotations of two kinds, and pictures see both ways; cuts would lose that",
}


def verified(kind: str | None) -> None:
    """Check that inside methods were verified on a language model, by its config.model_type.

    Raises:
        UnsupportedError: they were not, or cannot work there.
    """
    if kind not in VERIFIED:
        why = f": {UNFIT[kind]}" if kind in UNFIT else ""
        raise UnsupportedError(f"inside methods are verified on {', '.join(VERIFIED)}, not on {kind!r}{why}")


def cut_from(config: Any, first: int) -> None:
    """Check that no layer behind the first cut gets features of all positions besides (DeepStack).

    Raises:
        UnsupportedError: one does.
    """
    fed = len(getattr(config.vision_config, "deepstack_visual_indexes", None) or ())
    if first < fed:
        raise UnsupportedError(
            f"a cut before layer {first}: behind its first {fed} layers this language model adds features of all "
            f"positions (DeepStack); cut before layer {fed} or a later one"
        )


def renumbered(language: Any) -> None:
    """Check that columns may be numbered anew.

    Raises:
        UnsupportedError: they are numbered by row and column.
    """
    if language.config.model_type in NUMBERED:
        raise UnsupportedError(
            "an inside method that numbers columns anew, and a language model that numbers a picture by row and column "
            "(M-RoPE); let the method keep the numbers (positions='true'), or take another"
        )


def check_length(network: PreTrainedModel, prompt: int, answer: int, then: str) -> None:
    """Check that the language model reads as many positions as a prompt and its answer have.

    Raises:
        InputsError: it does not; `then` says what to do.
    """
    limit = getattr(network.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and prompt + answer > limit:
        raise InputsError(
            f"the prompt has {prompt:,} positions and the answer up to {answer:,}, but the language model reads "
            f"{limit:,}; {then}"
        )
