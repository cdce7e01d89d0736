"""Stage 2: the projector and the LLM on the frozen tower, whole pictures, many questions packed behind each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, LlavaNextConfig, LlavaNextForConditionalGeneration, PreTrainedTokenizerFast

from herovlm.demo import draw, scenes
from training.demo import data, packed, tower, words

SHORT = 3.0  # weight of a token of a short answer (yes, no, a count, a name): there are few of them
LENGTH = 22  # tokens that a question with its answer takes at most
PLACE: Any = "place"  # a kind of question that only training asks
LEGIBLE = ("existence", "counting", "spatial")  # what a thumbnail tells
CONTEXT = 4096  # tokens that the LLM reads
_SHAPES = [(height, width) for sizes in scenes.SIZES.values() for width, height in sizes]
PINPOINTS = sorted([rows * data.TILE, columns * data.TILE] for rows, columns in scenes.SIZES)


@dataclass(frozen=True)
class Scale:
    """How large the LLM and its steps are."""

    width: int = 256
    layers: int = 6
    pictures: int = 8  # a step, whole
    tiles: int = 16  # a step, one local tile a picture
    questions: int = 14  # behind each picture


FULL = Scale()
SMALL = Scale(width=64, layers=1, pictures=2, tiles=4, questions=3)  # to try the command: nothing is learned


def build(clip: CLIPModel, vocabulary: int, scale: Scale = FULL) -> LlavaNextForConditionalGeneration:
    """A small LLaVA-NeXT with an untrained LLM behind the trained tower."""
    text = dict(
        model_type="llama",
        hidden_size=scale.width,
        intermediate_size=scale.width * 5 // 2,
        num_hidden_layers=scale.layers,
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
    branches: list[list[Branch]]  # as many for every picture
    targets: list[Tensor]  # a picture: (T, N, 5), what stands in each patch
    room: int  # visual positions that the longest picture may take
    gaps: Tensor | None = None  # (B, room) 0 or 1: how far each visual position is numbered behind the one before it


@dataclass(frozen=True)
class Branch:
    """One question behind the image: ids of "\nquestion ASSISTANT: answer</s>", where the answer starts, its kind."""

    ids: list[int]
    start: int
    kind: str


def branch(tokenizer: PreTrainedTokenizerFast, question: scenes.Question) -> Branch:
    """Tokenise one question as the chat template writes it."""
    asked = tokenizer(f"\n{question.text} ASSISTANT:", add_special_tokens=False).input_ids
    told = tokenizer(f" {question.answer}", add_special_tokens=False).input_ids
    return Branch(asked + told + [words.EOS], len(asked), question.kind)


def asked(
    rng: random.Random,
    picture: data.Picture,
    tile: int,
    only: tuple[str, ...],
    first: list[scenes.Question],
    count: int,
) -> list[scenes.Question]:
    """Draw `count` of some kinds about a tile, after those given; one comes twice only where there are too few."""
    drawn = {question.text: question for question in first}
    for _ in range(3 * count):
        drawn |= {question.text: question for question in about(rng, picture, tile) if question.kind in only}
        if len(drawn) >= count:
            break
    found = list(drawn.values())
    return found[:count] if len(found) >= count else rng.sample(found * count, count)


def about(rng: random.Random, picture: data.Picture, tile: int) -> list[scenes.Question]:
    """Ask once about the items of a tile, as if it were all there is."""
    return scenes.ask(rng, picture.scene.kind, tuple(picture.inside[tile]), picture.middle(tile))


def spatial(rng: random.Random, picture: data.Picture, tile: int, sides: int, places: int) -> list[scenes.Question]:
    """Ask on which side of the middle items stand, and where (which only training asks: column and row of patches)."""
    items = picture.inside[tile]
    found = [about(rng, picture, tile)[-1] for _ in range(sides)]
    names = [item.name for item in items]
    unique = [item for item in items if names.count(item.name) == 1]
    for item in rng.sample(unique, min(places, len(unique))):
        column, row = picture.place(item, tile)
        found.append(scenes.Question(PLACE, f"Where is the {item.name}?", f"{column}{row}"))
    return found


def whole(
    tokenizer: PreTrainedTokenizerFast, start: int, first: int, renumber: bool = False, scale: Scale = FULL
) -> Iterator[Batch]:
    """Endless batches of whole pictures from step `start` on.

    `renumber` numbers the positions of every second picture as if a random share of them were not there, though all
    are: then places have to be read off the features, for position ids no longer tell them.
    """
    room = data.SIDE**2 + max(height // scenes.PATCH * (width // scenes.PATCH + 1) for height, width in _SHAPES)
    for step, group in enumerate(data.stream(start, scale.pictures, first, crowd=16), start):
        rng = random.Random(step)
        kinds = scenes.QUESTION_KINDS
        questions = [asked(rng, p, 0, kinds, spatial(rng, p, 0, 1, 1), scale.questions) for p in group]
        branches = [[branch(tokenizer, question) for question in drawn] for drawn in questions]
        sizes = [p.scene.image.size[::-1] for p in group]
        gaps = None
        if renumber:
            share = torch.tensor([rng.uniform(0.05, 1) if row % 2 else 1.0 for row in range(len(group))])
            draw = torch.rand(len(group), room, generator=torch.Generator().manual_seed(step))
            gaps = (draw < share[:, None]).long()
        yield Batch([p.tiles for p in group], sizes, branches, [p.targets for p in group], room, gaps)


def single(
    tokenizer: PreTrainedTokenizerFast, start: int, first: int, placed: int = 0, scale: Scale = FULL
) -> Iterator[Batch]:
    """Endless batches of single tiles, thumbnails among them: short contexts teach the LLM to look things up.

    `placed` of the questions about a tile are spatial, and as many ask for places.
    """
    room = data.SIDE * (data.SIDE + 1)
    for step, group in enumerate(data.stream(start, scale.tiles // 2, first, crowd=28), start):
        rng = random.Random(step)
        local = [(p, t) for p in group for t in range(1, len(p.tiles)) if askable(p.inside[t])]
        few = rng.sample(group, scale.tiles // 4)
        spots = [(p, 0) for p in few] + rng.choices(local, k=scale.tiles - len(few))
        branches = []
        for p, t in spots:
            only = scenes.QUESTION_KINDS if t else LEGIBLE
            drawn = asked(rng, p, t, only, spatial(rng, p, t, placed, placed), scale.questions)
            branches.append([branch(tokenizer, question) for question in drawn])
        sizes = [(data.TILE, data.TILE)] * len(spots)
        yield Batch([p.tiles[t][None] for p, t in spots], sizes, branches, [p.targets[t][None] for p, t in spots], room)


def askable(items: list[scenes.Item]) -> bool:
    """Whether every kind of question can be asked about these items."""
    names = [item.name for item in items]
    return sum(names.count(name) == 1 for name in names) >= 2


def layout(branches: list[list[Branch]]) -> tuple[Tensor, ...]:
    """Ids, targets and their weights, each (B, M, LENGTH), padded on the right."""
    shape = (len(branches), len(branches[0]), LENGTH)
    ids, targets, weights = torch.zeros(shape, dtype=torch.long), torch.full(shape, data.IGNORE), torch.ones(shape)
    for row, several in enumerate(branches):
        for number, one in enumerate(several):
            end = len(one.ids)
            ids[row, number, :end] = torch.tensor(one.ids)
            targets[row, number, one.start - 1 : end - 1] = ids[row, number, one.start : end]
            weights[row, number, one.start - 1 : end - 1] = SHORT if end - one.start <= 3 else 1.0
    return ids, targets, weights


class Stage(nn.Module):
    """All that stage 2 trains: the projector and the LLM; the tower is frozen."""

    NAMED = ("shapes", "colours", "digits")
    shapes: Tensor
    colours: Tensor
    digits: Tensor

    def __init__(self, model: LlavaNextForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.llava = model
        self.head = tokenizer("USER: ", add_special_tokens=False).input_ids
        named = [[f" {shape}" for shape in draw.SHAPES], [f" {colour}" for colour in data.COLOURS], list("0123456789")]
        words_of = [[tokenizer(word, add_special_tokens=False).input_ids for word in group] for group in named]
        if any(len(ids) != 1 for group in words_of for ids in group):
            raise ValueError("every shape, colour and digit has to be one token")
        for name, group in zip(self.NAMED, words_of, strict=True):
            self.register_buffer(name, torch.tensor([ids[0] for ids in group]), persistent=False)  # class -> token id
        model.model.vision_tower.requires_grad_(False)
        self.body = packed.forward

    def images(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """Packed features of each picture, (positions, D), and all patches before packing, (sum of T, N, D)."""
        core = self.llava.model
        with torch.no_grad():
            shown = data.pixels(torch.cat(batch.tiles)).to(core.device)
            seen = core.vision_tower(pixel_values=shown, output_hidden_states=True)
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
        for column, tokens in enumerate((self.shapes, self.colours, self.digits, self.digits, self.digits)):
            known = (targets[..., column] >= 0) & (targets[..., column] < len(tokens))
            states = F.rms_norm(patches[known].float(), patches.shape[-1:])
            losses.append(F.cross_entropy(states @ names.T, tokens[targets[..., column][known]]))
        return torch.stack(losses).mean()

    def answers(self, images: list[Tensor], batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Loss over answer tokens behind packed features, and the share of whole answers that are right by kind."""
        device, embed = self.llava.device, self.llava.get_input_embeddings()
        head = embed(torch.tensor([words.BOS, *self.head], device=device))
        prefix = torch.zeros(len(images), len(head) + batch.room, head.shape[-1], device=device)
        lengths = torch.tensor([len(head) + len(image) for image in images], device=device)
        for row, image in enumerate(images):
            prefix[row, : lengths[row]] = torch.cat([head, image.to(head.dtype)])
        known = torch.arange(prefix.shape[1], device=device) < lengths[:, None]
        ids, targets, weights = (part.to(device) for part in layout(batch.branches))
        steps = torch.ones_like(known, dtype=torch.long)
        if batch.gaps is not None:
            steps[:, len(head) :] = batch.gaps.to(device)
        before = steps.cumsum(1) - 1
        places = before.gather(1, lengths[:, None] - 1) + 1 + torch.arange(LENGTH, device=device)
        out = self.body(self.llava.model.language_model, prefix, embed(ids), known, before, places)
        asked = targets != data.IGNORE
        logits, wanted, weight = self.llava.lm_head(out[asked]).float(), targets[asked], weights[asked]
        loss = (F.cross_entropy(logits, wanted, reduction="none") * weight).sum() / weight.sum()
        right = torch.ones_like(asked)
        right[asked] = logits.argmax(-1) == wanted
        return loss, scores(right.all(-1), batch) | {"answers": loss.item()}

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """One step's loss, over answer tokens and of the projected patches."""
        images, patches = self.images(batch)
        loss, seen = self.answers(images, batch)
        align = self.alignment(patches, torch.cat(batch.targets).to(patches.device))
        return loss + 0.3 * align, seen | {"align": align.item()}


def scores(right: Tensor, batch: Batch) -> dict[str, float]:
    """Share of answers right in every token, (B, M) -> by kind of question."""
    kinds = [one.kind for several in batch.branches for one in several]
    found = right.flatten().tolist()
    return {
        kind: sum(hit for hit, own in zip(found, kinds, strict=True) if own == kind) / max(1, kinds.count(kind))
        for kind in (*scenes.QUESTION_KINDS, PLACE)
    }


class Alignment(nn.Module):
    """The projector alone, before any LLM: projected patches look like the words for what stands in them."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """One step's loss."""
        _, patches = self.stage.images(batch)
        loss = self.stage.alignment(patches, torch.cat(batch.targets).to(patches.device))
        return loss, {}


def stage(clip: CLIPModel, tokenizer: PreTrainedTokenizerFast, scale: Scale = FULL) -> Stage:
    """Build stage 2 around a trained tower."""
    return Stage(build(clip, len(tokenizer), scale), tokenizer)
