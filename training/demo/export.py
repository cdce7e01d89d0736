"""Write the trained model as ordinary transformers folders: the LLaVA-NeXT, and beside it the CLIP of its tower."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import CLIPModel, LlavaNextForConditionalGeneration, LlavaNextImageProcessorPil, LlavaNextProcessor

from training.demo import data, llm, words


def export(llava: LlavaNextForConditionalGeneration, clip: CLIPModel, vocabulary: Tokenizer, folder: Path) -> None:
    """Save both models in bfloat16 with processor and tokenizers; `from_pretrained(folder)` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = words.wrap(vocabulary, "<s> $A", llm.CONTEXT, extra_special_tokens={"image_token": "<image>"})
    pictures = image_processor()
    processor = LlavaNextProcessor(
        pictures,
        tokenizer,
        patch_size=llava.config.vision_config.patch_size,
        vision_feature_select_strategy="default",
        chat_template=words.CHAT_TEMPLATE,
        image_token="<image>",
        num_additional_image_tokens=1,
    )
    llava.config.herovlm_clip = "clip"
    llava.generation_config.update(bos_token_id=words.BOS, eos_token_id=words.EOS, pad_token_id=words.PAD)
    llava.to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
    clip.vision_model.load_state_dict(tower_of(llava))
    clip.to(torch.bfloat16).save_pretrained(folder / "clip")
    words.wrap(vocabulary, "<s> $A </s>", clip.config.text_config.max_position_embeddings).save_pretrained(
        folder / "clip"
    )


def image_processor() -> LlavaNextImageProcessorPil:
    """The processor that cuts pictures into the tiles of `data.cut`."""
    return LlavaNextImageProcessorPil(
        size={"shortest_edge": data.TILE},
        crop_size={"height": data.TILE, "width": data.TILE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        image_grid_pinpoints=llm.PINPOINTS,
    )


def tower_of(llava: LlavaNextForConditionalGeneration) -> dict[str, torch.Tensor]:
    """Weights of the LLaVA's vision tower under CLIP's names."""
    return {name.removeprefix("vision_model."): value for name, value in llava.model.vision_tower.state_dict().items()}
