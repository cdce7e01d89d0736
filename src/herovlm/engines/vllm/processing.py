"""What vLLM's front end does with a request: pixels as the model's own processor makes them, and a shorter prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from transformers import BatchFeature
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.parse import ImageProcessorItems, ImageSize
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptReplacement,
    PromptUpdateDetails,
)

from herovlm import registry
from herovlm.engines.vllm.asked import PREFIX, WHOLE, Asked, Settings
from herovlm.errors import InputsError, UsageError
from herovlm.plan import token_count
from herovlm.prompt import question

TOLD, TOKENS, KEPT = "herovlm_told", "herovlm_tokens", "herovlm_kept"  # fields beside the pixels
LONGEST = 10_000  # characters of a question that does not stand in the prompt, whose length vLLM bounds


class Info(BaseProcessingInfo):  # type: ignore[misc]
    """What vLLM asks about a model before it has one."""

    @cached_property
    def settings(self) -> Settings:
        """What the engine was started with."""
        told = self.ctx.get_mm_config().mm_processor_kwargs
        if told:
            raise UsageError(
                f"--mm-processor-kwargs {told}: how a picture is cut is read from the model's folder; leave it out "
                "(what is kept stands in --hf-overrides, and requests say theirs)"
            )
        return Settings.of(self.get_hf_config())

    @property
    def model_id(self) -> str:
        """The model and what is kept of its pictures: caches that several engines share go by it."""
        return f"{super().model_id} {self.settings}"

    @cached_property
    def reads_question(self) -> bool:
        """Whether what is kept depends on the question."""
        return self.settings.reads_question(self.get_hf_config())

    @cached_property
    def vision(self) -> tuple[str, ...]:
        """Names of what belongs to the encoder."""
        return registry.family(SimpleNamespace(config=self.get_hf_config())).vision

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        """Pictures in any number; OneVision cuts a picture into tiles only where it is alone in its prompt."""
        return {"image": 1 if self.get_hf_config().model_type == "llava_onevision" else None}

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        """Count the most positions of a picture."""
        size = self.get_image_size_with_most_features()
        return {"image": self.settings.count(self.get_hf_config(), (size.height, size.width), Asked())}

    def get_image_size_with_most_features(self) -> ImageSize:
        """Find the picture with the most positions among those that fill whole tiles."""
        config = self.get_hf_config()
        side = config.vision_config.image_size
        high, wide = (side, side) if isinstance(side, int) else side
        sizes = [tuple(size) for size in getattr(config, "image_grid_pinpoints", None) or ()]
        if not sizes:
            most = self.get_hf_processor().image_processor.max_patches
            sizes = [(r * high, c * wide) for r in range(1, most + 1) for c in range(1, most // r + 1)]
        height, width = max(sizes, key=lambda size: self.settings.count(config, size, Asked()))
        return ImageSize(width=width, height=height)


class Dummies(BaseDummyInputsBuilder[Info]):  # type: ignore[misc]
    """The largest pictures, for which vLLM sizes its memory."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        """Write a placeholder a picture, and a question."""
        return str(self.info.get_hf_processor().image_token) * mm_counts.get("image", 0) + " What is this?"

    def get_dummy_mm_data(
        self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Make blank pictures."""
        width, height = self.info.get_image_size_with_most_features()
        count, overrides = mm_counts.get("image", 0), mm_options.get("image")
        return {"image": self._get_dummy_images(width=width, height=height, num_images=count, overrides=overrides)}


class Processor(BaseMultiModalProcessor[Info]):  # type: ignore[misc]
    """Makes pixels picture by picture, so that none depends on those beside it, and counts what will be kept.

    The question and the budget stand in `mm_processor_kwargs`, which vLLM's caches of pictures and of prefixes go by.
    """

    def apply(self, inputs: Any, timing_ctx: Any) -> Any:
        """Read what the request asks for, the question from its prompt if need be, before anything is looked up."""
        asked = Asked.read(inputs.hf_processor_mm_kwargs)
        if len(asked.question or "") > LONGEST:
            raise InputsError(
                f"{PREFIX}question has {len(asked.question or ''):,} characters; give at most {LONGEST:,}, such as "
                "the last sentence of the user"
            )
        if not self.info.reads_question:
            asked = replace(asked, question=None)
        elif inputs.mm_data_items.get_all_counts().get("image"):
            asked = replace(asked, question=(asked.question or "").strip() or self._question(inputs.prompt))
            if not asked.question:
                raise InputsError(
                    "there are pictures and no question in this request, and what is kept goes by it; ask something, "
                    "give herovlm_question in mm_processor_kwargs, or serve a method such as 'hero(alpha=1)'"
                )
        return super().apply(replace(inputs, hf_processor_mm_kwargs=asked.given), timing_ctx)

    def _question(self, ids: Sequence[int]) -> str:
        """Read the user's words out of a prompt, as `herovlm.drop` does."""
        prompt = torch.tensor(ids)
        image = self.info.get_hf_config().image_token_id
        return question.from_ids(prompt, torch.ones_like(prompt), image, self.info.get_tokenizer())

    def _apply_hf_processor_main(self, mm_items: Any, hf_kwargs: Mapping[str, object]) -> BatchFeature:
        """Process each picture as if it came alone."""
        asked, found = Asked.read(hf_kwargs), BatchFeature()
        if not mm_items.get_all_counts().get("image"):
            return found
        images = mm_items["image"]
        if not isinstance(images, ImageProcessorItems):
            raise InputsError("image embeddings: what is kept is chosen by looking at a picture; send the picture")
        processor = self.info.get_hf_processor()
        rows: list[dict[str, torch.Tensor]] = []
        for i in range(images.get_count()):
            size = images.get_image_size(i)
            text = {"text": [processor.image_token], "add_special_tokens": False}
            made = processor(images=[images.get(i)], return_tensors="pt", **text)
            count = self._counted(made["input_ids"][0], (size.height, size.width), asked)
            row = {name: self._cast(made[name]) for name in self.info.vision if made.get(name) is not None}
            rows.append(row | {TOLD: asked.sent(), TOKENS: made["input_ids"][0], KEPT: torch.tensor(count)})
        found.update({name: [row[name] for row in rows] for name in rows[0]})
        return found

    def _counted(self, ids: torch.Tensor, size: tuple[int, int], asked: Asked) -> int:
        """Count the positions of a picture that stay, once it is clear that all of them are counted as made."""
        config, settings = self.info.get_hf_config(), self.info.settings
        made, known = int((ids == config.image_token_id).sum()), token_count(config, size, WHOLE)
        if made != known:
            raise InputsError(
                f"the model's processor makes {made:,} positions of a picture of {size[1]} x {size[0]}, and its config "
                f"says {known:,}; one of them was changed, use the model's own"
            )
        count: int = settings.count(config, size, asked)
        return count

    def _cast(self, value: Any) -> torch.Tensor:
        """Bring pixels to the model's dtype."""
        made = torch.as_tensor(value)
        return made.to(self.info.ctx.model_config.dtype) if made.is_floating_point() else made

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        """One entry a picture; pixels alone go to the device."""
        return {
            name: MultiModalFieldConfig.batched("image", keep_on_cpu=not name.startswith("pixel_"))
            for name in hf_inputs
        }

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, object], out_mm_kwargs: Any
    ) -> Sequence[PromptReplacement]:
        """Write in the place of a placeholder what the model's processor writes, with as many as will be kept."""
        image = int(self.info.get_hf_config().image_token_id)

        def written(item: int) -> PromptUpdateDetails[list[int]]:
            fields = out_mm_kwargs["image"][item]
            ids, left = fields[TOKENS].data.tolist(), int(fields[KEPT].data)
            short = []
            for token in ids:
                if token != image or left > 0:
                    short.append(token)
                    left -= token == image
            return PromptUpdateDetails.select_token_id(short, image)

        return [PromptReplacement(modality="image", target=[image], replacement=written)]
