"""Stage 2: the projector and the LLM on the frozen tower, whole pictures, many questions packed behind each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, LlavaNextConfig, LlavaNextForConditionalGeneration, PreTrainedTokenizerFast

from herovlm.demo import draw, scenes
from training.demo import data, tower, words

PICTURES = 8  # a step, whole
TILES = 16  # a step, one local tile a picture
SHORT = 3.0  # weight of a token of a short answer (yes, no, a count, a name): there are few of them
LIST = "What is there?"
CONTEXT = 4096  # tokens that the LLM reads
PINPOINTS = sorted([rows * data.TILE, columns * data.TILE] for rows, columns in scenes.SIZES)


def build(clip: CLIPModel, vocabulary: int) -> LlavaNextForConditionalGeneration:
    """A small LLaVA-NeXT with an untrained LLM behind the trained tower."""
    text = dict(
        model_type="llama",
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=8,
        vocab_size=vocabulary,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=words.BOS,
        eos_token_id=words.EOS,
        pad_token_id=words.PAD,
    )
    config = LlavaNextConfig(
        vision_config=clip.config.vision_config.to_dict() | {"model_type": "clip_vision_model"},
        text_config=text,
        image_token_index=words.IMAGE,
        image_grid_pinpoints=PINPOINTS,
        vision_feature_layer=tower.FEATURE_LAYER,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    model = LlavaNextForConditionalGeneration(config)
    for module in (model.model.language_model, model.model.multi_modal_projector):
        for linear in (m for m in module.modules() if isinstance(m, nn.Linear)):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)  # 0.02 is far too little for so narrow a model
    nn.init.normal_(model.get_input_embeddings().weight, std=0.06)
    weights = {
        name.removeprefix("vision_model."): value
        for name, value in clip.state_dict().items()
        if name.startswith("vision_model.")
    }
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
    targets: list[Tensor]  # a picture: (T, N, 5), what stands in each patch


def branch(tokenizer: PreTrainedTokenizerFast, question: str, answer: str) -> tuple[list[int], int]:
    """Token ids behind the image, and the index of the first answer token."""
    asked = tokenizer(f"\n{question} ASSISTANT:", add_special_tokens=False).input_ids
    told = tokenizer(f" {answer}", add_special_tokens=False).input_ids
    return asked + told + [words.EOS], len(asked)


def asked(rng: random.Random, kind: scenes.Kind, items: list[scenes.Item], rounds: int) -> dict[str, str]:
    """Several rounds of questions about items: text -> answer."""
    drawn = [question for _ in range(rounds) for question in scenes.ask(rng, kind, tuple(items), fine=3)]
    return {question.text: question.answer for question in drawn}


def whole(tokenizer: PreTrainedTokenizerFast, start: int, first: int) -> Iterator[Batch]:
    """Endless batches of whole pictures from step `start` on."""
    for step, group in enumerate(data.stream(start, PICTURES, first), start):
        rng = random.Random(step)
        questions = [asked(rng, p.scene.kind, list(p.scene.items), 4) for p in group]
        branches = [[branch(tokenizer, *pair) for pair in pairs.items()] for pairs in questions]
        sizes = [p.scene.image.size[::-1] for p in group]
        yield Batch([p.tiles for p in group], sizes, branches, [p.targets for p in group])


def single(tokenizer: PreTrainedTokenizerFast, start: int, first: int) -> Iterator[Batch]:
    """Endless batches of single local tiles of crowded pictures: short contexts teach the LLM to look things up."""
    for step, group in enumerate(data.stream(start, TILES // 2, first, crowd=28), start):
        rng = random.Random(step)
        places = [(p, t) for p in group for t in range(1, len(p.tiles)) if askable(p.inside[t])]
        places = rng.sample(places, min(TILES, len(places)))
        questions = [asked(rng, p.scene.kind, p.inside[t], 2) for p, t in places]
        for (p, t), pairs in zip(places, questions, strict=True):
            if rng.random() < 0.5:
                pairs[LIST] = listing(p.inside[t])
        branches = [[branch(tokenizer, *pair) for pair in pairs.items()] for pairs in questions]
        sizes = [(data.TILE, data.TILE)] * len(places)
        yield Batch([p.tiles[t][None] for p, t in places], sizes, branches, [p.targets[t][None] for p, t in places])


def listing(items: list[scenes.Item]) -> str:
    """All items in reading order: "red star 472, blue ring 118"; only training asks for it."""
    return ", ".join(f"{item.name} {item.text}" for item in sorted(items, key=lambda item: item.cell[::-1]))


def askable(items: list[scenes.Item]) -> bool:
    """Whether every kind of question can be asked about these items."""
    names = [item.name for item in items]
    return sum(names.count(name) == 1 for name in names) >= 2


def layout(prefix: int, branches: list[tuple[list[int], int]], length: int) -> tuple[Tensor, ...]:
    """Ids, positions, targets, their weights, and the visibility of one packed row of `length` positions."""
    ids, targets = torch.zeros(length, dtype=torch.long), torch.full((length,), data.IGNORE)
    positions, owner, weights = torch.arange(length), torch.full((length,), -1), torch.ones(length)
    owner[:prefix] = 0
    at = prefix
    for number, (tokens, answer) in enumerate(branches, 1):
        end = at + len(tokens)
        ids[at:end] = torch.tensor(tokens)
        positions[at:end] = prefix + torch.arange(len(tokens))
        targets[at + answer - 1 : end - 1] = ids[at + answer : end]
        weights[at + answer - 1 : end - 1] = SHORT if len(tokens) - answer <= 3 else 1.0
        owner[at:end] = number
        at = end
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    sees = causal & ((owner[None] == 0) | (owner[:, None] == owner[None]))
    return ids, positions.clamp(max=prefix + 200), targets, weights, sees


class Stage(nn.Module):
    """All that stage 2 trains: the projector and the LLM; the tower is frozen."""

    def __init__(self, model: LlavaNextForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.llava = model
        self.head = tokenizer("USER: ", add_special_tokens=False).input_ids
        named = [[f" {shape}" for shape in draw.SHAPES], [f" {colour}" for colour in data.COLOURS], list("0123456789")]
        words_of = [[tokenizer(word, add_special_tokens=False).input_ids for word in group] for group in named]
        if any(len(ids) != 1 for group in words_of for ids in group):
            raise ValueError("every shape, colour and digit has to be one token")
        self.names = [torch.tensor([ids[0] for ids in group]) for group in words_of]  # class -> token id
        model.model.vision_tower.requires_grad_(False)

    def images(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """Packed features of each picture, (positions, D), and all patches before packing, (sum of T, N, D)."""
        core = self.llava.model
        with torch.no_grad():
            seen = core.vision_tower(pixel_values=data.pixels(torch.cat(batch.tiles)), output_hidden_states=True)
        patches = core.multi_modal_projector(seen.hidden_states[tower.FEATURE_LAYER][:, 1:])
        by_picture = patches.split([len(tiles) for tiles in batch.tiles])
        packed, _ = core.pack_image_features(
            by_picture,
            torch.tensor(batch.sizes),
            vision_feature_select_strategy="default",
            image_newline=core.image_newline,
        )
        return list(packed), patches

    def alignment(self, patches: Tensor, targets: Tensor) -> Tensor:
        """Pull projected patches towards the words for what stands in them; LLaVA does it by captions."""
        names = self.llava.get_input_embeddings().weight
        losses = []
        for column, tokens in zip(range(5), [*self.names[:2], *[self.names[2]] * 3], strict=True):
            known = (targets[..., column] >= 0) & (targets[..., column] < len(tokens))
            states = F.rms_norm(patches[known].float(), patches.shape[-1:])
            losses.append(F.cross_entropy(states @ names.T, tokens[targets[..., column][known]]))
        return torch.stack(losses).mean()

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """One step's loss over answer tokens, and the share of answer tokens that are right."""
        images, patches = self.images(batch)
        embed = self.llava.get_input_embeddings()
        head = torch.tensor([words.BOS, *self.head])
        prefixes = [len(head) + len(image) for image in images]
        length = max(p + sum(len(ids) for ids, _ in b) for p, b in zip(prefixes, batch.branches, strict=True))
        rows = [layout(p, b, length) for p, b in zip(prefixes, batch.branches, strict=True)]
        ids, positions, targets, weights, sees = (torch.stack(part) for part in zip(*rows, strict=True))
        embeds = embed(ids).clone()
        for row, image in enumerate(images):
            embeds[row, : prefixes[row]] = torch.cat([embed(head), image.to(embeds.dtype)])
        sees = sees | torch.eye(length, dtype=torch.bool)  # padding sees itself
        out = self.llava.model.language_model(
            inputs_embeds=embeds, attention_mask=sees[:, None], position_ids=positions, use_cache=False
        ).last_hidden_state
        asked = targets != data.IGNORE
        logits, wanted = self.llava.lm_head(out[asked]).float(), targets[asked]
        right, digit = logits.argmax(-1) == wanted, torch.isin(wanted, self.names[2])
        align = self.alignment(patches, torch.cat(batch.targets))
        weight = weights[asked]
        loss = (F.cross_entropy(logits, wanted, reduction="none") * weight).sum() / weight.sum()
        return loss + 0.3 * align, {
            "token": right.float().mean().item(),
            "digit": right[digit].float().mean().item(),
            "other": right[~digit].float().mean().item(),
            "answers": loss.item(),
            "align": align.item(),
        }


def stage(clip: CLIPModel, tokenizer: PreTrainedTokenizerFast) -> Stage:
    """Build stage 2 around a trained tower."""
    return Stage(build(clip, len(tokenizer)), tokenizer)
