"""The architectures that vLLM serves: its own language model behind what herovlm kept of the pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from vllm.distributed import get_tp_group
from vllm.logger import init_logger
from vllm.model_executor.models.interfaces import SupportsMultiModal
from vllm.model_executor.models.utils import (
    AutoWeightsLoader,
    WeightsMapper,
    init_vllm_registered_model,
    maybe_prefix,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from herovlm.engines.vllm import eyes
from herovlm.engines.vllm.asked import Asked, Settings
from herovlm.engines.vllm.processing import KEPT, TOKENS, TOLD, Dummies, Info, Processor
from herovlm.errors import reason

logger = init_logger("vllm.herovlm")


class Served(nn.Module, SupportsMultiModal):  # type: ignore[misc]
    """A language model of vLLM, behind transformers' vision tower.

    With tensor parallelism the first rank looks and tells the others: no two of them can keep different tokens.
    """

    placeholder: ClassVar[str] = "<image>"
    hf_to_vllm_mapper = WeightsMapper(
        orig_to_new_prefix={"model.language_model.": "language_model.model.", "lm_head.": "language_model.lm_head."}
    )

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        """Write what stands for a picture in a prompt."""
        return cls.placeholder

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__()
        self.asked_of_vllm = vllm_config
        self.config = config = vllm_config.model_config.hf_config
        text, marks = config.text_config, cast("Any", self)
        marks.configure_mm_token_handling(vocab_size=text.vocab_size, mm_token_ids=[config.image_token_id])
        with marks._mark_language_model(vllm_config):
            self.language_model = init_vllm_registered_model(
                vllm_config=vllm_config, hf_config=text, prefix=maybe_prefix(prefix, "language_model")
            )
        self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors
        self._eyes: eyes.Eyes | None = None
        self.blind, self.why = 0, ""  # pictures that could not be looked at since the start, and why the last one

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Load the language model here; transformers loads the rest as it loads it anywhere."""
        named = self.hf_to_vllm_mapper.apply(weights)
        own = ((name, value) for name, value in named if name.startswith("language_model."))
        loaded: set[str] = AutoWeightsLoader(self).load_weights(own)
        if get_tp_group().rank_in_group == 0:
            self._loaded()
        return loaded

    def _loaded(self) -> eyes.Eyes:
        """Load who looks at the pictures, once; later where vLLM loads no weights (`--load-format dummy`)."""
        if self._eyes is None:
            asked, device = self.asked_of_vllm.model_config, next(self.language_model.parameters()).device
            settings = Settings.of(self.config)
            self._eyes = eyes.load(asked.model, settings, dtype=asked.dtype, device=device, revision=asked.revision)
        return self._eyes

    def embed_multimodal(self, **given: Any) -> list[Tensor]:
        """Return what is kept of each picture, (kept positions, D), for pictures of several requests at once."""
        if TOLD not in given:
            return []
        counts = [int(count) for count in given[KEPT]]
        device = next(self.language_model.parameters()).device
        found = torch.empty(
            (sum(counts), self.config.text_config.hidden_size),
            dtype=self.asked_of_vllm.model_config.dtype,
            device=device,
        )
        group = get_tp_group()
        if group.rank_in_group == 0:
            for room, own in zip(torch.split(found, counts), self._looked(given, counts), strict=True):
                room.copy_(own)  # from whatever device and dtype
        if group.world_size > 1:
            found = group.broadcast(found, src=0)
        return list(torch.split(found, counts))

    def _looked(self, given: dict[str, Any], counts: Sequence[int]) -> list[Tensor]:
        """Look at the pictures; whatever goes wrong, exactly so many rows come back: vLLM would not survive less."""
        names = [name for name in given if name not in (TOLD, TOKENS, KEPT)]
        pictures = [
            {name: given[name][i] for name in names} | {"input_ids": given[TOKENS][i]} for i in range(len(counts))
        ]
        asked = [Asked.arrived(told) for told in given[TOLD]]
        found = self._tried(pictures, asked)
        failed = found is None
        if found is None:  # one of them is at fault, and those beside it are other people's
            alone = [self._tried([picture], [one]) for picture, one in zip(pictures, asked, strict=True)]
            found = [torch.zeros((0, self.config.text_config.hidden_size)) if own is None else own[0] for own in alone]
        wrong = sum(len(own) != count for own, count in zip(found, counts, strict=True))
        if wrong and not failed:
            self.why = "a wrong number of positions, which is a defect of herovlm: report it"
        self.blind += wrong
        return [exactly(own, count) for own, count in zip(found, counts, strict=True)]

    def _tried(self, pictures: Sequence[Mapping[str, Tensor]], asked: Sequence[Asked]) -> list[Tensor] | None:
        """Look at pictures; None if that fails."""
        try:
            return self._loaded().look(pictures, asked)
        except Exception as error:
            logger.exception("herovlm could not look at %d picture(s)", len(pictures))
            self.why = reason(error)
            return None

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
        **_: Any,
    ) -> Any:
        """Read the prompt, pictures embedded."""
        return self.language_model.model(input_ids, positions, intermediate_tensors, inputs_embeds=inputs_embeds)

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        """Score the next token."""
        logits: Tensor | None = self.language_model.compute_logits(hidden_states)
        return logits


def exactly(rows: Tensor, count: int) -> Tensor:
    """Return so many rows, whatever came: a wrong number would end the engine, and every request in it."""
    if len(rows) == count:
        return rows
    logger.error("herovlm has %d positions of a picture for which %d were promised; report this", len(rows), count)
    return torch.nn.functional.pad(rows[:count], (0, 0, 0, count - min(len(rows), count)))


def _architecture(name: str, placeholder: str) -> type[Served]:
    made = type(name, (Served,), {"placeholder": placeholder, "__module__": __name__})
    register = MULTIMODAL_REGISTRY.register_processor(Processor, info=Info, dummy_inputs=Dummies)
    found: type[Served] = register(made)
    return found


HerovlmLlavaNext = _architecture("HerovlmLlavaNext", "<image>")
HerovlmLlavaOnevision = _architecture("HerovlmLlavaOnevision", "<image>")
HerovlmInternVL = _architecture("HerovlmInternVL", "<IMG_CONTEXT>")
