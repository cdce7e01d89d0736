"""vLLM as the engine of a batch: in the process of whoever asks, with the plugin."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoProcessor

from herovlm.engines.engine import Answer, Asked
from herovlm.engines.vllm import asked as requests
from herovlm.engines.vllm import tested
from herovlm.engines.vllm.asked import WHOLE, Settings
from herovlm.engines.vllm.serve import overrides
from herovlm.plan import token_count
from herovlm.prompt.template import prompt


@dataclass(frozen=True)
class Offline:
    """An engine of vLLM, and what it was started with."""

    llm: Any
    processor: Any
    config: Any
    settings: Settings
    max_new_tokens: int = 64

    def __call__(self, asked: Sequence[Asked]) -> list[Answer]:
        """Answer questions together; vLLM makes its own batches of them.

        Raises:
            RuntimeError: a picture could not be looked at; vLLM forgets what it read instead.
        """
        from vllm import SamplingParams

        prompts = [
            {
                "prompt": prompt(self.processor, one.question),
                "multi_modal_data": {"image": one.picture},
                "mm_processor_kwargs": requests.Asked(one.question).given,
            }
            for one in asked
        ]
        greedy = SamplingParams(temperature=0, max_tokens=self.max_new_tokens)
        (before,) = self.llm.apply_model(blind)
        found = self.llm.generate(prompts, greedy, use_tqdm=False)
        (after,) = self.llm.apply_model(blind)
        if after[0] > before[0]:
            self.llm.reset_mm_cache()
            self.llm.llm_engine.reset_encoder_cache()
            self.llm.reset_prefix_cache()
            raise RuntimeError(f"a picture could not be looked at ({after[1]})")
        answers = []
        for one, said in zip(asked, found, strict=True):
            size = (one.picture.height, one.picture.width)
            kept = self.settings.count(self.config, size, requests.Asked())
            answers.append(Answer(said.outputs[0].text.strip(), float(kept), token_count(self.config, size, WHOLE)))
        return answers


def blind(served: Any) -> tuple[int, str]:
    """Count the pictures that a model answered without having seen them; and why the last one."""
    return served.blind, served.why


def ready(model: str, settings: Settings, max_new_tokens: int) -> Offline:
    """Start vLLM in this process, in float32 where there is no GPU.

    Args:
        model: folder or name.
        settings: what is kept of every picture.
        max_new_tokens: longest answer.

    Raises:
        HeroError: vLLM is missing or of another release, or does not serve this model or method.
    """
    tested()
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # it ends with the process that asks
    from vllm import LLM

    config = AutoConfig.from_pretrained(model)
    dtype = "auto" if torch.cuda.is_available() else "float32"
    llm = LLM(model, dtype=dtype, hf_overrides=overrides(config, settings), max_model_len=-1, seed=0)  # -1: what fits
    return Offline(llm, AutoProcessor.from_pretrained(model), config, settings, max_new_tokens)
