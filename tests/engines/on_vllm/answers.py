"""Answers of one process and of vLLM to the same questions, token for token."""

from __future__ import annotations

import copy
import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= {  # before vLLM and torch are imported
    "OMP_NUM_THREADS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # machines are shared
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}

import tiny_models
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

import herovlm
from herovlm import demo
from herovlm.demo import scenes
from herovlm.engines.vllm.asked import Settings
from herovlm.engines.vllm.serve import overrides

NEW = 10  # tokens of an answer


class Case(NamedTuple):
    """One question about one picture, and what may be kept."""

    image: Image.Image
    question: str
    keep: float


class Answer(NamedTuple):
    """Tokens that were read, and tokens that were written."""

    prompt: int
    ids: tuple[int, ...]


class Served(NamedTuple):
    """A model that both read, and its processor."""

    folder: Path
    model: Any
    processor: Any

    def chat(self, question: str) -> str:
        """The prompt of a question about a picture."""
        content = [{"type": "image"}, {"type": "text", "text": question}]
        return self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


@cache
def shipped() -> Served:
    """The demo model."""
    return Served(demo.WEIGHTS, *demo.load())


def wide(name: str, folder: Path) -> Served:
    """A tiny model of a family whose attention has heads as wide as vLLM's kernels want them."""
    model, processor = tiny_models.family(name).build(0)
    config = copy.deepcopy(model.config)
    heads = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    for key, value in heads.items():
        setattr(config.text_config, key, value)
    torch.manual_seed(0)
    made = type(model)(config)
    with torch.no_grad():
        for parameter in made.parameters():  # answers that differ clearly from picture to picture
            parameter.normal_(0, 0.15) if parameter.ndim > 1 else parameter.add_(torch.randn_like(parameter) * 0.1)
    made.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return Served(
        folder, AutoModelForImageTextToText.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    )


@torch.no_grad()
def here(served: Served, case: Case, method: str) -> Answer:
    """Answer in this process, as a user of transformers does."""
    inputs = served.processor(images=[case.image], text=[served.chat(case.question)], return_tensors="pt")
    short = herovlm.drop(served.model, inputs, method=method, keep=case.keep, processor=served.processor)
    out = served.model.generate(**short, do_sample=False, max_new_tokens=NEW)
    length = short["input_ids"].shape[1]
    return Answer(length, tuple(out[0, length:].tolist()))


@contextmanager
def engine(served: Served, method: str, keep: float, **more: Any) -> Iterator[Any]:
    """vLLM with the plugin, in this process."""
    from vllm import LLM
    from vllm.distributed import cleanup_dist_env_and_memory

    how = {"dtype": "float32", "max_model_len": 1024, "enforce_eager": True, "max_num_seqs": 8, "seed": 0}
    told = overrides(served.model.config, Settings(method=method, keep=keep))
    llm = LLM(str(served.folder), hf_overrides=told, **{**how, **more})
    try:
        yield llm
    finally:
        del llm
        gc.collect()
        cleanup_dist_env_and_memory()


def there(llm: Any, served: Served, cases: Sequence[Case], **more: Any) -> list[Answer]:
    """Answer by vLLM, all cases at once."""
    from vllm import SamplingParams

    asked = [
        {
            "prompt": served.chat(case.question),
            "multi_modal_data": {"image": case.image},
            "mm_processor_kwargs": {"herovlm_keep": case.keep, **more},
        }
        for case in cases
    ]
    end = served.model.generation_config.eos_token_id
    how = SamplingParams(temperature=0, max_tokens=NEW, stop_token_ids=[end] if isinstance(end, int) else end)
    found = llm.generate(asked, how, use_tqdm=False)
    return [Answer(len(one.prompt_token_ids), tuple(one.outputs[0].token_ids)) for one in found]


def boards(count: int, keeps: Sequence[float]) -> list[Case]:
    """Two questions about each of some boards, at each budget."""
    made = [scenes.make(seed) for seed in range(count)]
    return [Case(one.image, ask.text, keep) for one in made for ask in one.questions[:2] for keep in keeps]
