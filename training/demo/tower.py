"""Stage 1: the vision tower and its text tower.

Two losses together: every patch learns what stands in it (heads thrown away afterwards; a label learns its digits and
the shape that it belongs to), and the CLS token learns to match the tile with texts about it, as CLIP does.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from herovlm.demo import scenes
from training.demo import data, words

WIDTH, DEPTH = 160, 12
FEATURE_LAYER = -2  # hidden state that LLaVA reads; the heads sit on the same one
TILES = 48  # a step
CONTEXT = 48  # tokens that the text tower reads


def build(vocabulary: int) -> CLIPModel:
    """An untrained CLIP with sine-cosine position embeddings, so that neighbours are near from the start."""
    vision = dict(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=WIDTH // 32,
        image_size=data.TILE,
        patch_size=scenes.PATCH,
        hidden_act="quick_gelu",
        projection_dim=128,
    )
    text = dict(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=vocabulary,
        max_position_embeddings=CONTEXT,
        bos_token_id=words.BOS,
        eos_token_id=words.EOS,
        pad_token_id=words.PAD,
        projection_dim=128,
    )
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=128))
    table = model.vision_model.embeddings.position_embedding.weight
    with torch.no_grad():
        table[0] = 0.0
        table[1:] = 0.3 * sine_cosine(data.SIDE, WIDTH)
    return model


def sine_cosine(side: int, width: int) -> Tensor:
    """Two-dimensional sine-cosine table, (side * side, width)."""
    angle = torch.arange(side)[:, None] / (16 ** (torch.arange(width // 4) / (width // 4)))
    line = torch.cat([angle.sin(), angle.cos()], 1)  # (side, width / 2)
    rows = line[:, None].expand(side, side, -1)
    return torch.cat([rows, rows.transpose(0, 1)], -1).reshape(side * side, width)


class Heads(nn.Module):
    """What stands in a patch: shape, colour, three digits, row and column."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.linear = nn.Linear(WIDTH, 2 * (data.NONE + 1) + 30 + 2 * data.SIDE)

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """(..., WIDTH) -> logits of the seven targets."""
        classes = data.NONE + 1
        return self.linear(self.norm(features)).split([classes, classes, 10, 10, 10, data.SIDE, data.SIDE], -1)


@dataclass
class Batch:
    """Tiles of several pictures with targets and one text a tile."""

    tiles: Tensor  # (B, 3, TILE, TILE) uint8
    targets: Tensor  # (B, N, 5)
    ids: Tensor  # (B, length) text ids
    match: Tensor  # (B texts, B tiles): 1 fits, 0 does not, -1 cannot be told


def text_about(rng: random.Random, picture: data.Picture, tile: int) -> tuple[str, set[str]]:
    """A text about items of a tile, and the words (names and labels) that make it fit."""
    items = picture.inside[tile] or list(picture.scene.items)
    item = rng.choice(items)
    kind, name, style = picture.scene.kind, item.name, rng.random()
    if style < 0.25 and tile > 0:
        return (f"Which shape costs {item.text}?" if kind == "prices" else f"Which shape has number {item.text}?"), {
            item.text
        }
    if style < 0.55:
        return (f"How much is the {name}?" if kind == "prices" else f"What number is on the {name}?"), {name}
    if style < 0.7:
        return f"Is there a {name}?", {name}
    if style < 0.8:
        return f"How many {name}s are there?", {name}
    sides = rng.choice(("left or right of", "above or below"))
    return f"Is the {name} {sides} the middle?", {name}


def batches(tokenizer: PreTrainedTokenizerFast, start: int) -> Iterator[Batch]:
    """Endless batches from step `start` on: tiles of shuffled pictures, crowded ones among them."""
    pictures = data.stream(start, 14, scenes.SPLITS["train"].start, crowd=28)
    step = start
    for group in pictures:
        rng = random.Random(step)
        places = [(p, t) for p in group for t in range(len(p.tiles)) if p.inside[t] or rng.random() < 0.2]
        places = rng.sample(places, min(TILES, len(places)))
        texts = [text_about(rng, p, t) for p, t in places]
        known = [{i.name for i in p.inside[t]} | {i.text for i in p.inside[t]} for p, t in places]
        match = torch.tensor([[float(len(need & has)) / len(need) for has in known] for _, need in texts])
        match[(match > 0) & (match < 1)] = -1.0
        digits = torch.tensor([any(word[0].isdigit() for word in need) for _, need in texts])
        thumbnails = torch.tensor([t == 0 for _, t in places])
        match[digits[:, None] & thumbnails[None]] = -1.0  # labels are illegible there
        ids = tokenizer([text for text, _ in texts], padding=True, return_tensors="pt").input_ids
        yield Batch(
            torch.stack([p.tiles[t] for p, t in places]), torch.stack([p.targets[t] for p, t in places]), ids, match
        )
        step += 1


def dense_loss(heads: Heads, features: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of the heads at items, and a little of "nothing here" elsewhere."""
    logits = heads(features)  # 7 x (B, N, classes)
    item = targets[..., 0] != data.NONE
    digit = targets[..., 2] != data.IGNORE
    place = torch.arange(features.shape[1]).expand(item.shape)
    wanted = [*targets.unbind(-1), place // data.SIDE, place % data.SIDE]
    losses, seen = [], {}
    for name, out, want, weight in zip(
        "shape colour d1 d2 d3 row column".split(), logits, wanted, (1, 1, 1, 1, 1, 0.1, 0.1), strict=True
    ):
        where = digit if name.startswith("d") else item
        losses.append(weight * F.cross_entropy(out[where].float(), want[where]))
        seen[name] = (out[where].argmax(-1) == want[where]).float().mean().item()
        if name in ("shape", "colour"):
            losses.append(0.5 * F.cross_entropy(out[~item].float(), want[~item]))
    label_shape = (logits[0][digit].argmax(-1) == targets[..., 0][digit]).float().mean().item()
    return torch.stack(losses).sum(), seen | {"bound": label_shape}


def match_loss(
    model: CLIPModel, cls: Tensor, ids: Tensor, match: Tensor, bias: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Sigmoid matching of texts and tiles, fits and misfits weighing the same."""
    tiles = F.normalize(model.visual_projection(model.vision_model.post_layernorm(cls)).float(), dim=-1)
    mask = (ids != words.PAD).long()
    pooled = model.text_model(input_ids=ids, attention_mask=mask).pooler_output
    texts = F.normalize(model.text_projection(pooled).float(), dim=-1)
    logits = model.logit_scale.exp() * texts @ tiles.T + bias
    fits, not_fits = match == 1, match == 0
    loss = F.softplus(-logits[fits]).mean() + F.softplus(logits[not_fits]).mean()
    right = 0.5 * ((logits[fits] > 0).float().mean() + (logits[not_fits] <= 0).float().mean())
    return loss, {"match": right.item()}


class Stage(nn.Module):
    """All that stage 1 trains."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.clip, self.heads, self.bias = build(vocabulary), Heads(), nn.Parameter(torch.tensor(-1.0))

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """One step's loss and what it got right."""
        out = self.clip.vision_model(pixel_values=data.pixels(batch.tiles), output_hidden_states=True)
        dense, seen = dense_loss(self.heads, out.hidden_states[FEATURE_LAYER][:, 1:], batch.targets)
        match, right = match_loss(self.clip, out.last_hidden_state[:, 0], batch.ids, batch.match, self.bias)
        return dense + match, seen | right
