"""What would go silently wrong is refused here, in one place (measured on transformers 5.18 .. 5.23)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from herovlm.errors import InputsError, ModelError, UnsupportedError


def model(given: PreTrainedModel) -> None:
    """Check that the object is the transformers model itself, of a version with the seam.

    Raises:
        ModelError: its own forward takes no mm_encoder_outputs.
    """
    if "mm_encoder_outputs" not in inspect.signature(type(given).forward).parameters:
        raise ModelError(
            f"the forward of {type(given).__name__} takes no mm_encoder_outputs; pass the transformers model itself "
            "(PEFT: model.get_base_model(), torch.compile: the model before it) with transformers >= 5.18"
        )


def no_pictures(network: PreTrainedModel, given: Mapping[str, Any]) -> None:
    """Check that inputs without pixel_values are plain text.

    Raises:
        InputsError: placeholders without pictures.
        UnsupportedError: the pictures are hidden in other inputs.
    """
    _hidden(given)
    ids = given.get("input_ids")
    count = int((ids == network.config.image_token_id).sum()) if isinstance(ids, Tensor) else 0
    if count:
        raise InputsError(f"input_ids hold {count:,} image placeholders, but there are no pixel_values; pass both")


def cached(value: Any) -> bool:
    """Say whether a cache already holds a prompt (an empty one, made for the next prompt, is fine)."""
    length = getattr(value, "get_seq_length", None)
    return value is not None and (length is None or int(length()) > 0)


def inputs(network: PreTrainedModel, given: Mapping[str, Any]) -> None:
    """Check model inputs that carry pictures.

    Raises:
        InputsError: input_ids are missing, or a tensor has the wrong shape.
        UnsupportedError: inputs that cannot be shortened rightly.
    """
    _hidden(given)
    strategy = given.get("vision_feature_select_strategy") or network.config.vision_feature_select_strategy
    if strategy != "default":
        raise UnsupportedError(
            f"vision_feature_select_strategy={strategy!r} sends the CLS token among the patches and breaks the packing "
            "of tiles; use 'default'"
        )
    _shapes(given)


def _hidden(given: Mapping[str, Any]) -> None:
    """Refuse inputs in which visual positions cannot be found."""
    if given.get("inputs_embeds") is not None:
        raise UnsupportedError("inputs_embeds hide which positions are visual; pass input_ids instead")
    if given.get("mm_encoder_outputs") is not None:
        raise UnsupportedError("mm_encoder_outputs: these inputs were encoded before; pass pixel_values alone")
    if given.get("pixel_values_videos") is not None:
        raise UnsupportedError("video inputs are not supported; pass images as pixel_values")
    if cached(given.get("past_key_values")):
        raise UnsupportedError(
            "past_key_values already hold a prompt: generate() would cut the next prompt by the length of the short "
            "one; start each turn with the whole conversation and no cache"
        )


def _shapes(given: Mapping[str, Any]) -> None:
    """Check that the tensors have the shapes a processor makes."""
    ids, mask = given.get("input_ids"), given.get("attention_mask")
    if not isinstance(ids, Tensor) or ids.ndim != 2:
        raise InputsError("input_ids must be a tensor (batch, length): call the processor with return_tensors='pt'")
    if not isinstance(given["pixel_values"], Tensor):
        raise InputsError("pixel_values must be one tensor: call the processor with return_tensors='pt'")
    for name in ("attention_mask", "position_ids", "labels", "token_type_ids", "mm_token_type_ids"):
        value = given.get(name)
        if value is not None and tuple(value.shape) != tuple(ids.shape):
            raise InputsError(f"{name} has shape {tuple(value.shape)}, but input_ids have {tuple(ids.shape)}")
    if mask is not None and bool((mask == 0).all(-1).any()):
        raise InputsError("attention_mask hides a whole prompt of the batch")


def position_options(given: Mapping[str, Any], full: Tensor, original: bool) -> None:
    """Check position_ids and use_cache against positions="original" (`original`) or "compact".

    Raises:
        UnsupportedError: the combination is silently wrong.
    """
    if original and given.get("use_cache") is False:
        raise UnsupportedError(
            "positions='original' with use_cache=False: without a cache transformers takes gaps in the positions for "
            "packed sequences and masks them apart; use positions='compact' or use_cache=True"
        )
    custom = given.get("position_ids")
    if custom is not None and not original:
        real = slice(None) if given.get("attention_mask") is None else given["attention_mask"] != 0
        if not torch.equal(custom[real].to(full.device), full[real]):
            raise UnsupportedError(
                "position_ids of your own are lost with positions='compact', which numbers the short prompt 0, 1, ...; "
                "use positions='original' to keep them"
            )
