"""Whatever a release of transformers calls the cache, it is found."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from transformers import DynamicCache, StaticCache

import herovlm
from herovlm import UnsupportedError
from herovlm.seams import compat


@pytest.mark.parametrize("name", [*compat.CACHES, "memory"])
def test_a_cache_is_found_under_any_name(models: Any, name: str) -> None:
    config = models("llava").model.config.get_text_config()
    for cache in (DynamicCache(), StaticCache(config, max_cache_len=8)):
        assert compat.cache_in({"input_ids": torch.zeros(1, 1), name: cache}) is cache


def test_no_cache_is_none() -> None:
    assert compat.cache_in({"input_ids": torch.zeros(1, 1), **dict.fromkeys(compat.CACHES)}) is None


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_outputs_give_their_cache_without_a_warning(models: Any, family: str) -> None:
    small = models(family)
    words = small.processor.tokenizer("hi", return_tensors="pt")
    for out in (small.model(**words), small.model.generate(**words, max_new_tokens=2, return_dict_in_generate=True)):
        assert type(compat.cache_in(out)) is DynamicCache
    assert compat.cache_in(small.model(**words, use_cache=False)) is None


def test_an_empty_cache_of_ones_own_is_filled(models: Any) -> None:
    small = models("llava")
    inputs = small.inputs([[tiny.picture(60, 31)]], ["USER: <image>\nHi? ASSISTANT:"])
    cache = DynamicCache(config=small.model.config.get_text_config())
    with torch.no_grad(), herovlm.dropping(small.model, method="random + fastv(layer=1, keep=0.5)") as record:
        small.model(**inputs, **{tiny.CACHE: cache})
    assert record.last is not None
    assert cache.get_seq_length() == record.last["input_ids"].shape[1]
    assert cache.layers[1].keys.shape[2] < cache.layers[0].keys.shape[2]


def test_layers_that_are_called_in_a_new_way_are_refused(models: Any) -> None:
    small = models("llava")
    inputs = small.inputs([[tiny.picture(60, 31)]], ["USER: <image>\nHi? ASSISTANT:"])

    def renamed(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, {("turns" if name == "position_embeddings" else name): value for name, value in kwargs.items()}

    handle = small.model.model.language_model.layers[0].register_forward_pre_hook(renamed, with_kwargs=True)
    try:
        with (
            herovlm.dropping(small.model, method="random + fastv(layer=1, keep=0.5)"),
            pytest.raises(UnsupportedError, match="without position_embeddings"),
        ):
            small.model(**inputs)
    finally:
        handle.remove()
