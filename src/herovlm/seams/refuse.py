"""What would go silently wrong is refused here, in one place (measured on transformers 5.18 .. 5.24)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from herovlm.errors import InputsError, ModelError, UnsupportedError
from herovlm.seams import compat, language_models


def model(given: PreTrainedModel) -> None:
    """Check that the object is the transformers model itself, of a version with the seam.

    Raises:
        ModelError: its own forward takes no mm_encoder_outputs.
    """
    if not _takes_features(type(given).forward):
        raise ModelError(
            f"the forward of {type(given).__name__} takes no mm_encoder_outputs; pass the transformers model itself "
            "(PEFT: model.get_base_model(), torch.compile: the model before it) with transformers >= 5.18"
        )


@cache
def _takes_features(forward: Callable[..., Any]) -> bool:
    return "mm_encoder_outputs" in inspect.signature(forward).parameters


def language_model(network: PreTrainedModel) -> Any:
    """Find the language model of a model, one that inside methods can cut.

    Raises:
        UnsupportedError: they cannot, or it was never verified.
    """
    language: Any = _language(network)
    kind = getattr(getattr(language, "config", None), "model_type", None)
    language_models.verified(kind)
    how = language.config._attn_implementation
    if how not in ("sdpa", "eager"):
        raise UnsupportedError(f"inside methods are verified with sdpa and eager attention, not with {how!r}")
    uncompiled(network)
    return language


def layers(network: PreTrainedModel) -> Any:
    """Find the layers of the language model of a model, whatever its kind.

    Raises:
        UnsupportedError: nothing can be put between them.
    """
    found: Any = getattr(_language(network), "layers", None)
    if not found or any("hidden_states" not in inspect.signature(type(one).forward).parameters for one in found):
        raise UnsupportedError(
            f"{type(network).__name__}: its language model has no layers that pass hidden_states on to each other"
        )
    uncompiled(network)
    return found


def uncompiled(network: PreTrainedModel) -> None:
    """Check that the layers of a model call their hooks.

    Raises:
        UnsupportedError: it is compiled.
    """
    if any(hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in network.modules()):
        raise UnsupportedError("inside methods hook into the layers, which torch.compile leaves out; do not compile it")


def _language(network: PreTrainedModel) -> Any:
    """Find what reads the embeddings, whichever of two names it has."""
    found = (getattr(network.base_model, name, None) for name in ("language_model", "text_model"))
    return next((one for one in found if one is not None), None)


def generation(setting: Callable[[str], Any]) -> None:
    """Check options of generate() against pruning inside the language model.

    Raises:
        UnsupportedError: the option does not go with it, or was never verified.
    """
    wrong = {
        "use_cache": (False, "without a cache every step would read the prompt and choose anew"),
        "prefill_chunk_size": (..., "inside methods read the prompt as a whole"),
        "assistant_model": (..., "taking tokens back from caches of different lengths is not verified"),
        "prompt_lookup_num_tokens": (..., "taking tokens back from caches of different lengths is not verified"),
    }
    for name, (value, why) in wrong.items():
        given = setting(name)
        if given is not None and (value is ... or given is value):
            raise UnsupportedError(f"{name} with a method inside the language model: {why}; leave {name} out")


def decoding(setting: Callable[[str], Any], given: Mapping[str, Any], what: str) -> None:
    """Check options of generate() against a strategy, which answers greedily and returns token ids.

    Raises:
        UnsupportedError: the option does not go with it.
    """
    if (setting("num_beams") or 1) > 1 or (setting("num_return_sequences") or 1) > 1 or setting("do_sample"):
        raise UnsupportedError(f"{what} answers greedily; give do_sample=False, num_beams=1, num_return_sequences=1")
    names = ("return_dict_in_generate", "output_scores", "output_logits", "assistant_model", "prefill_chunk_size")
    wrong = [name for name in (*names, "prompt_lookup_num_tokens") if setting(name)]
    wrong += ["past_key_values"] if given.get("past_key_values") is not None else []
    if wrong:
        raise UnsupportedError(f"{', '.join(wrong)} with {what}, which returns token ids alone; leave it out")


def repeated(encoded: Any, times: int) -> None:
    """Check features that generate() will repeat for beams or return sequences.

    Raises:
        UnsupportedError: this release of transformers would mix them up.
    """
    pooled = encoded["image"].pooler_output if encoded else None
    if times > 1 and isinstance(pooled, Tensor) and pooled.shape[1] == 1 and not compat.beams_keep_features_apart():
        raise UnsupportedError(
            "beams or return sequences over prompts that keep different numbers of positions: this release of "
            "transformers mixes up their features; update transformers, or give one prompt at a time"
        )


def call(given: Mapping[str, Any]) -> None:
    """Check a direct `model(...)` against pruning inside the language model.

    Raises:
        UnsupportedError: it would go silently wrong.
    """
    if given.get("labels") is not None:
        raise UnsupportedError("labels with a method inside the language model: the last layers have fewer columns")
    if isinstance(given.get("logits_to_keep"), Tensor):
        raise UnsupportedError("logits_to_keep as indices: the last layers have fewer columns; give a number")


def whole(ids: Tensor, prompt: Tensor) -> bool:
    """Return whether the model is given the prompt, and not another.

    Raises:
        UnsupportedError: it is given a piece of the prompt, or the prompt and more.
    """
    length = min(ids.shape[1], prompt.shape[1])
    if ids.shape[0] != prompt.shape[0] or not torch.equal(ids[:, :length], prompt[:, :length]):
        return False
    if ids.shape != prompt.shape:
        raise UnsupportedError("inside methods read the prompt as a whole, in one pass and without an answer behind it")
    return True


def prompt(cache: Any, length: int) -> None:
    """Check the cache that a prompt of `length` columns is read into.

    Raises:
        UnsupportedError: its layers cannot hold different numbers of columns, or there is none.
    """
    if type(cache) is not DynamicCache or getattr(cache, "offloading", False):
        kind = "no cache" if cache is None else type(cache).__name__
        raise UnsupportedError(f"inside methods need a plain DynamicCache, of layers that grow; this call has {kind}")
    if cache.get_seq_length():
        raise UnsupportedError("inside methods read the prompt as a whole; the cache holds something already")
    _window(cache, length)


def answer(cache: Any, rows: int, tokens: int, length: int, batch: int) -> None:
    """Check the cache of a prompt that was cut, before more tokens are read into it.

    Raises:
        UnsupportedError: it would go silently wrong.
    """
    if rows != batch:
        raise UnsupportedError(f"the prompt was read in a batch of {batch}, the answer comes in a batch of {rows}")
    before = int(cache.get_seq_length())
    if before < length:
        raise UnsupportedError("the cache of a prompt that was cut has been cropped; start each turn without a cache")
    _window(cache, before + tokens)


def _window(cache: Any, length: int) -> None:
    """Refuse sliding windows that have begun to slide: they count columns, and columns are missing."""
    windows = [layer.sliding_window for layer in cache.layers if getattr(layer, "is_sliding", False)]
    if windows and length >= min(windows):
        raise UnsupportedError(
            f"{length:,} positions in a sliding window of {min(windows):,}: with columns missing it would slide "
            "wrongly; keep less before the language model, or use no method inside it"
        )


def cached(given: Mapping[str, Any]) -> bool:
    """Return whether inputs bring a cache that holds a prompt (an empty one, made for the next prompt, is fine)."""
    lengths = [getattr(cache, "get_seq_length", None) for cache in compat.caches_in(given)]
    return any(length is None or int(length()) > 0 for length in lengths)


def inputs(given: Any, media: Sequence[str]) -> dict[str, Any]:
    """Check model inputs but for the pictures, as far as no value of the prompt has to be read.

    Args:
        given: what the processor returned.
        media: names of the pixels that the family takes.

    Raises:
        InputsError: they are no mapping, input_ids are missing, or a tensor has the wrong shape.
        UnsupportedError: inputs that cannot be shortened rightly.
    """
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise InputsError(
            f"inputs is a {type(given).__name__}, not a mapping of names to tensors; give all that the processor "
            "returned: processor(images=..., text=..., return_tensors='pt')"
        )
    if given.get("inputs_embeds") is not None:
        raise UnsupportedError("inputs_embeds hide which positions are visual; pass input_ids instead")
    if given.get("mm_encoder_outputs") is not None:
        raise UnsupportedError("mm_encoder_outputs: these inputs were encoded before; pass pixel_values alone")
    if given.get("pixel_values_videos") is not None and "pixel_values_videos" not in media:
        raise UnsupportedError("video inputs are not supported; pass images as pixel_values")
    _tokens(given)
    if cached(given):
        raise UnsupportedError(
            "the cache (past_key_values) already holds a prompt: generate() would cut the next prompt by the length of "
            "the short one; start each turn with the whole conversation and no cache"
        )
    return dict(given)


def feature_layers(network: PreTrainedModel, given: Mapping[str, Any], strategy: str = "default") -> None:
    """Check which features of the tower are asked for, where a model can be told.

    Args:
        network: the model.
        given: its inputs.
        strategy: "default" leaves the first out, which is the CLS token's; "full" is right for towers without one.

    Raises:
        InputsError: there is no such layer.
        UnsupportedError: features of the CLS token among those of the patches.
    """
    asked = given.get("vision_feature_select_strategy")
    asked = network.config.vision_feature_select_strategy if asked is None else asked
    if not isinstance(asked, str) or asked != strategy:
        wrong = "sends the CLS token among the patches" if strategy == "default" else "leaves the first patch out"
        raise UnsupportedError(
            f"vision_feature_select_strategy={asked!r} {wrong} and breaks the packing of tiles; use {strategy!r}"
        )
    layers, depth = given.get("vision_feature_layer"), network.config.vision_config.num_hidden_layers
    every = layers if isinstance(layers, list | tuple) and layers else [0 if layers is None else layers]
    if not all(type(layer) is int and -depth - 1 <= layer <= depth for layer in every):
        raise InputsError(f"vision_feature_layer={layers!r} is no layer of this tower, which has {depth}")


def _tokens(given: Mapping[str, Any]) -> None:
    """Check what has one value a token: whole numbers, in the shape of input_ids, and there to be read."""
    ids = given.get("input_ids")
    if not isinstance(ids, Tensor) or ids.ndim != 2 or not ids.numel():
        raise InputsError("input_ids must be a tensor (batch, length): call the processor with return_tensors='pt'")
    for name in ("input_ids", "attention_mask", "position_ids", "labels", "token_type_ids", "mm_token_type_ids"):
        value = given.get(name)
        if value is None:
            continue
        legible(name, value)
        real = value.dtype.is_floating_point and name != "attention_mask"
        if real or value.dtype.is_complex or (name == "input_ids" and value.dtype is torch.bool):
            raise InputsError(f"{name} is of {value.dtype}; give the whole numbers that the processor made")
        shape = value.shape[-2:] if name == "position_ids" else value.shape  # (3 or 4, B, L) of several axes
        if tuple(shape) != tuple(ids.shape):
            raise InputsError(f"{name} has shape {tuple(value.shape)}, but input_ids have {tuple(ids.shape)}")


def original_positions(network: PreTrainedModel, length: int) -> None:
    """Check that keeping the numbers of a prompt of `length` positions is the same as masking what is dropped.

    Raises:
        UnsupportedError: the language model numbers tokens in another way, or counts columns in some of its layers.
    """
    language: Any = _language(network)
    text: Any = network.config.get_text_config()
    way_out = "use positions='compact'"
    if getattr(text, "alibi", False) or "position_ids" not in inspect.signature(type(language).forward).parameters:
        raise UnsupportedError(
            f"positions='original' with a {text.model_type} language model, which does not number its tokens by "
            f"position_ids (ALiBi, for one, counts columns); {way_out}"
        )
    window = getattr(text, "sliding_window", None)
    kinds = set(getattr(text, "layer_types", None) or ["sliding_attention" if window else "full_attention"])
    for kind in sorted(kinds - {"full_attention"}):
        if kind != "sliding_attention" or window is None:
            raise UnsupportedError(
                f"positions='original' with layers of {kind}: dropping is not known to be masking there; {way_out}"
            )
        if length > window:
            raise UnsupportedError(
                f"positions='original' with a sliding window of {window:,}, and prompt and answer take {length:,} "
                f"positions: the window counts columns, and columns are missing; {way_out}"
            )


def tiles(pixels: Any, high: int, wide: int, axes: Sequence[int]) -> None:
    """Check pixels that are tiles of one size (..., 3, high, wide), with one of several numbers of axes.

    Raises:
        InputsError: the processor of this model does not make such.
    """
    legible("pixel_values", pixels)
    if not pixels.dtype.is_floating_point or pixels.ndim not in axes or tuple(pixels.shape[-3:]) != (3, high, wide):
        raise InputsError(
            f"pixel_values of shape {tuple(pixels.shape)} and {pixels.dtype} are not what this model sees: tiles of "
            f"(3, {high}, {wide}), floating; give what its own processor returned"
        )


def tile_counts(pixels: Tensor, counts: Sequence[int]) -> None:
    """Check that there are the tiles that each picture has by its size; a batch (images, tiles, ...) may have more.

    Raises:
        InputsError: there are not.
    """
    enough = sum(counts) == len(pixels) if pixels.ndim == 4 else pixels.shape[1] >= max(counts, default=0)
    if not enough:
        raise InputsError(
            f"pixel_values of shape {tuple(pixels.shape)} have not the {list(counts)} tiles of pictures of such "
            "image_sizes; give both as the processor returned them"
        )


def sizes_of(sizes: Any) -> Tensor | None:
    """Check sizes of pictures, (images, 2) height and width, if there are any; bring them to the host.

    Raises:
        InputsError: they are none.
    """
    if sizes is None:
        return None
    sizes = torch.tensor(sizes) if _is_table(sizes) else sizes
    legible("image_sizes", sizes)
    sizes = sizes.cpu()
    real = sizes.dtype.is_floating_point or sizes.dtype.is_complex or sizes.dtype is torch.bool
    if real or sizes.ndim != 2 or sizes.shape[-1] != 2 or bool((sizes < 1).any()):
        raise InputsError(
            "image_sizes must be whole numbers from 1 on, height and width of each image; give those of the processor"
        )
    checked: Tensor = sizes
    return checked


def _is_table(sizes: Any) -> bool:
    """Whether these are pairs of whole numbers in lists."""
    rows = isinstance(sizes, list | tuple) and all(isinstance(row, list | tuple) and len(row) == 2 for row in sizes)
    return rows and all(type(one) is int and abs(one) < 2**62 for row in sizes for one in row)


def legible(name: str, value: Any) -> None:
    """Check that an input is a tensor that has data.

    Raises:
        InputsError: it is not.
    """
    if not isinstance(value, Tensor):
        raise InputsError(f"{name} must be one tensor: call the processor with return_tensors='pt'")
    if value.is_meta:
        raise InputsError(f"{name} is on the meta device and holds no data; give what the processor returned")


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
        mask = given.get("attention_mask")
        real = slice(None) if mask is None else (mask != 0).to(full.device)
        if not torch.equal(custom.to(full.device)[real], full[real]):
            raise UnsupportedError(
                "position_ids of your own are lost with positions='compact', which numbers the short prompt 0, 1, ...; "
                "use positions='original' to keep them"
            )
