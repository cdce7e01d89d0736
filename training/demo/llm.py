"""Stage 2: the projector and the LLM on the frozen tower, whole pictures, many questions packed behind each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, LlavaNextConfig, LlavaNextForConditionalGeneration, PreTrainedTokenizerFast

from herovlm.demo import scenes
from training.demo import data, tower, words

PICTURES = 16  # a step
CONTEXT = 4096  # tokens that the LLM reads
PINPOINTS = sorted([rows * data.TILE, columns * data.TILE] for rows, columns in scenes.SIZES)


def build(clip: CLIPModel, vocabulary: int) -> LlavaNextForConditionalGeneration:
    """A small LLaVA-NeXT with an untrained LLM behind the trained tower."""
    text = dict(model_type="llama", hidden_size=256, intermediate_size=640, num_hidden_layers=4, num_attention_heads=8,
                num_key_value_heads=8, vocab_size=vocabulary, max_position_embeddings=CONTEXT, tie_word_embeddings=True,
                bos_token_id=words.BOS, eos_token_id=words.EOS, pad_token_id=words.PAD)
    config = LlavaNextConfig(
        vision_config=clip.config.vision_config.to_dict() | {"model_type": "clip_vision_model"}, text_config=text,
        image_token_index=words.IMAGE, image_grid_pinpoints=PINPOINTS, vision_feature_layer=tower.FEATURE_LAYER,
        vision_feature_select_strategy="default", tie_word_embeddings=True,
    )
    model = LlavaNextForConditionalGeneration(config)
    weights = {name.removeprefix("vision_model."): value for name, value in clip.state_dict().items()
               if name.startswith("vision_model.")}
    own = model.model.vision_tower
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in own.state_dict()) else ""
    own.load_state_dict({prefix + name: value for name, value in weights.items()})
    return model


@dataclass
class Batch:
    """Pictures with packed questions: one prefix (image), many branches that see the prefix and themselves."""

    tiles: list[Tensor]  # a picture: (T, 3, TILE, TILE) uint8
    sizes: list[tuple[int, int]]  # height, width
    branches: list[list[tuple[list[int], int]]]  # ids of "\nquestion ASSISTANT: answer</s>", where the answer starts


def branch(tokenizer: PreTrainedTokenizerFast, question: str, answer: str) -> tuple[list[int], int]:
    """Token ids behind the image, and the index of the first answer token."""
    asked = tokenizer(f"\n{question} ASSISTANT:", add_special_tokens=False).input_ids
    told = tokenizer(f" {answer}", add_special_tokens=False).input_ids
    return asked + told + [words.EOS], len(asked)


def batches(tokenizer: PreTrainedTokenizerFast, start: int, first: int, size: int = PICTURES) -> Iterator[Batch]:
    """Endless batches from step `start` on."""
    for step, group in enumerate(data.stream(start, size, first), start):
        rng = random.Random(step)
        branches = []
        for picture in group:
            asked = {}
            for _ in range(4):
                asked |= {q.text: q.answer for q in scenes.ask(rng, picture.scene.kind, picture.scene.items, fine=3)}
            branches.append([branch(tokenizer, question, answer) for question, answer in asked.items()])
        yield Batch([p.tiles for p in group], [p.scene.image.size[::-1] for p in group], branches)


def layout(prefix: int, branches: list[tuple[list[int], int]], length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids, positions, targets and the visibility of one packed row of `length` positions."""
    ids, targets = torch.zeros(length, dtype=torch.long), torch.full((length,), data.IGNORE)
    positions, owner = torch.arange(length), torch.full((length,), -1)
    owner[:prefix] = 0
    at = prefix
    for number, (tokens, answer) in enumerate(branches, 1):
        end = at + len(tokens)
        ids[at:end] = torch.tensor(tokens)
        positions[at:end] = prefix + torch.arange(len(tokens))
        targets[at + answer - 1 : end - 1] = ids[at + answer : end]
        owner[at:end] = number
        at = end
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    sees = causal & ((owner[None] == 0) | (owner[:, None] == owner[None]))
    return ids, positions.clamp(max=prefix + 200), targets, sees


class Stage(nn.Module):
    """All that stage 2 trains; with `frozen=False` the tower too."""

    def __init__(self, model: LlavaNextForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, frozen: bool = True):
        super().__init__()
        self.llava, self.frozen = model, frozen
        self.head = tokenizer("USER: ", add_special_tokens=False).input_ids
        model.model.vision_tower.requires_grad_(not frozen)

    def images(self, batch: Batch) -> list[Tensor]:
        """Packed features of each picture, (positions, D)."""
        core = self.llava.model
        with torch.set_grad_enabled(not self.frozen):
            seen = core.vision_tower(pixel_values=data.pixels(torch.cat(batch.tiles)), output_hidden_states=True)
        features = core.multi_modal_projector(seen.hidden_states[tower.FEATURE_LAYER][:, 1:])
        features = features.split([len(tiles) for tiles in batch.tiles])
        packed, _ = core.pack_image_features(features, torch.tensor(batch.sizes), vision_feature_select_strategy="default",
                                             image_newline=core.image_newline)
        return list(packed)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """One step's loss over answer tokens, and the share of answers that are wholly right."""
        images = self.images(batch)
        embed = self.llava.get_input_embeddings()
        head = torch.tensor([words.BOS, *self.head])
        prefixes = [len(head) + len(image) for image in images]
        length = max(p + sum(len(ids) for ids, _ in b) for p, b in zip(prefixes, batch.branches, strict=True))
        rows = [layout(p, b, length) for p, b in zip(prefixes, batch.branches, strict=True)]
        ids, positions, targets, sees = (torch.stack(part) for part in zip(*rows, strict=True))
        start = torch.cat([embed(head)[None].expand(len(images), -1, -1)], 0)
        embeds = embed(ids).clone()
        for row, image in enumerate(images):
            embeds[row, : prefixes[row]] = torch.cat([start[row], image.to(embeds.dtype)])
        sees = sees | torch.eye(length, dtype=torch.bool)
        out = self.llava.model.language_model(inputs_embeds=embeds, attention_mask=sees[:, None], position_ids=positions,
                                              use_cache=False).last_hidden_state
        asked = targets != data.IGNORE
        logits = self.llava.lm_head(out[asked]).float()
        wanted = targets[asked]
        right = logits.argmax(-1) == wanted
        digit = torch.isin(wanted, self.digits)
        return F.cross_entropy(logits, wanted), {
            "token": right.float().mean().item(), "digit": right[digit].float().mean().item(),
            "other": right[~digit].float().mean().item(),
        }

    @property
    def digits(self) -> Tensor:
        """Token ids of the ten digits (they follow the special tokens and "!".."/" in the byte alphabet)."""
        return torch.arange(self.zero, self.zero + 10)

    zero: int = 0  # token id of "0", set by `stage`


def stage(clip: CLIPModel, tokenizer: PreTrainedTokenizerFast, frozen: bool = True) -> Stage:
    """Build stage 2 around a trained tower."""
    made = Stage(build(clip, len(tokenizer)), tokenizer, frozen)
    made.zero = tokenizer.convert_tokens_to_ids("0")
    return made
