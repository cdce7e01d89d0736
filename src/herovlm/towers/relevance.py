"""How much a tile has to do with the question: cosine of tile and text in CLIP space.

Which CLIP belongs to a model is looked up in this order:
1. `attach(model, clip, tokenizer)`;
2. `model.config.herovlm_clip`: a folder inside the model's own folder, any other folder, or a name in the local cache;
3. `TOWERS`: the CLIP that the vision tower of well-known models was made from.
Nothing is downloaded unless `fetch` is told to; a missing CLIP is an error that says how to get it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, PreTrainedModel

from herovlm.errors import InputsError, TextTowerError, UnsupportedError
from herovlm.seams import parts
from herovlm.types import Compared, Relevance

# (hidden_size, blocks, image_size, patch_size) of a vision tower -> the CLIP checkpoint it was made from
TOWERS: dict[tuple[int, int, int, int], str] = {
    (1024, 24, 336, 14): "openai/clip-vit-large-patch14-336",  # LLaVA-1.5, LLaVA-NeXT
    (1024, 24, 224, 14): "openai/clip-vit-large-patch14",
}

Tokenize = Callable[..., Any]
MOST = 64  # questions of one CLIP that are remembered
_embedded: WeakKeyDictionary[CLIPModel, OrderedDict[Any, Text]] = WeakKeyDictionary()
_found: WeakKeyDictionary[PreTrainedModel, dict[str, tuple[CLIPModel, Tokenize]]] = WeakKeyDictionary()
_loading = Lock()  # a CLIP is loaded, and moved, by one thread at a time; a tokenizer is set up by one


def attach(model: PreTrainedModel, clip: CLIPModel, tokenizer: Tokenize) -> None:
    """Choose the CLIP (and tokenizer of it) that scores the question for this model, from objects already loaded."""
    _found[model] = {"clip": (clip.eval(), tokenizer)}


@torch.no_grad()
def score(
    model: PreTrainedModel, kind: Compared, questions: Sequence[str], looked_at: Tensor, prompt: Sequence[int]
) -> Tensor:
    """Score tiles (or patches) against the question of their prompt, (T,) or (T, N) float32 cosines or products.

    HERO's relevance (arXiv 2509.13067) is that of tiles, CDPruner's (arXiv 2506.10967) that of patches; TRIM
    (arXiv 2409.10994) normalises neither patch nor question, which is `kind="dots"`.

    `kind="tower"` projects the CLS state that the model's own tower has computed: no second pass.  Post-layernorm and
    projection both come from the CLIP checkpoint: they belong together, and in the LLaVA models the tower's own
    post-layernorm is never used, so it is CLIP's at best and missing at worst.  The tower of LLaVA-NeXT was
    fine-tuned, so its CLS is near CLIP's but not equal.  `kind="clip"` runs the original image tower on the tiles.

    Args:
        model: the model whose CLIP is meant.
        kind: "tower", "clip" or "dots".
        questions: one a prompt.
        looked_at: pixels (T, 3, height, width) for "clip", else CLS states (T, D) or patch states (T, N, D).
        prompt: the row of the batch that each tile belongs to.

    Raises:
        InputsError: a question is empty.
        TextTowerError: no CLIP on this machine.
    """
    unique = list(dict.fromkeys(prompt))
    _refuse_empty(questions, unique)
    clip, tokenizer = _find(model, "clip" if kind == "clip" else "tower")
    if kind == "dots" and looked_at.shape[-1] != (width := clip.config.vision_config.hidden_size):
        raise UnsupportedError(
            f"the projector of this model reads {looked_at.shape[-1]} channels a patch, more than one layer of its "
            f"tower, whose CLIP has {width}; a method that multiplies patches by the question needs one layer"
        )
    texts = embedded(clip, tokenizer, [questions[row] for row in unique], looked_at.device)
    embed = _look if kind == "clip" else _project
    image = embed(clip, looked_at).float()  # (T, E) or (T, N, E)
    if kind != "dots":
        image = torch.nn.functional.normalize(image, dim=-1)
    every = {row: text.raw if kind == "dots" else text.unit for row, text in zip(unique, texts, strict=True)}
    asked = every[unique[0]] if len(unique) == 1 else torch.stack([every[row] for row in prompt])  # (E,) or (T, E)
    return (image @ asked) if asked.ndim == 1 else torch.einsum("t...e,te->t...", image, asked)


@torch.no_grad()
def sentences(model: PreTrainedModel, questions: Sequence[str], device: torch.device) -> Tensor:
    """Embed questions by the text tower of a model's CLIP: (questions, E) float32, normalised.

    Raises:
        InputsError: a question is empty.
        TextTowerError: no CLIP on this machine.
    """
    _refuse_empty(questions, range(len(questions)))
    clip, tokenizer = _find(model, "tower")
    return torch.stack([text.unit for text in embedded(clip, tokenizer, questions, device)])


def _refuse_empty(questions: Sequence[str], prompts: Sequence[int]) -> None:
    """Raise when a prompt that has an image has no question."""
    empty = [row for row in prompts if not questions[row].strip()]
    if empty:
        raise InputsError(
            f"no question was found for prompt {empty[0] + 1} of {len(questions)}, and this method scores tiles by it; "
            "pass question='...' or use a method that needs no question, such as 'hero(alpha=1)'"
        )


class Text(NamedTuple):
    """A question in CLIP space."""

    raw: Tensor  # (E,) float32
    unit: Tensor  # (E,) float32, normalised


def embedded(clip: CLIPModel, tokenizer: Tokenize, questions: Sequence[str], device: torch.device) -> list[Text]:
    """Embed questions, equal ones once, all that are new in one pass of the text tower.

    The last few are remembered by their tokens and the state of the tower's weights: where they lie, and how often they
    were written to in place.  Only what is written through `Parameter.data` goes unseen; `forget` helps there.

    Args:
        clip: its text tower is asked.
        tokenizer: of that CLIP.
        questions: of one that is longer than the tower reads, the end counts, which is what asks.
        device: where they are wanted; the tower is moved there.
    """
    context = clip.config.text_config.max_position_embeddings
    with _loading:
        encoded = [tokenizer(one, return_tensors="pt", verbose=False)["input_ids"][0] for one in questions]
        if clip.device != device:
            clip.to(device)
    spelled = [tuple(ids.tolist()) for ids in encoded]  # with both ends
    spelled = [ids if len(ids) <= context else (*ids[:1], *ids[1 - context :]) for ids in spelled]
    state = _state(clip)
    with _loading:
        known = _embedded.setdefault(clip, OrderedDict())
        found = {ids: known[state, ids] for ids in spelled if (state, ids) in known}
    new = list(dict.fromkeys(ids for ids in spelled if ids not in found))
    if new:
        raw = _read(clip, new, device)
        unit = torch.nn.functional.normalize(raw, dim=-1)
        found |= dict(zip(new, map(Text, raw, unit), strict=True))
    with _loading:
        for ids in spelled:
            known[state, ids] = found[ids]
            known.move_to_end((state, ids))
        while len(known) > MOST:
            known.popitem(last=False)
    return [found[ids] for ids in spelled]


def forget(clip: CLIPModel) -> None:
    """Forget all questions that a CLIP has embedded."""
    with _loading:
        _embedded.pop(clip, None)


def _read(clip: CLIPModel, spelled: Sequence[tuple[int, ...]], device: torch.device) -> Tensor:
    """Run the text tower over token ids: (questions, E) float32, not normalised.

    Behind its last token, the one that is read off, a question is padded with that token: the tower is causal.
    """
    length = max(map(len, spelled))
    ids = torch.tensor([[*one, *one[-1:] * (length - len(one))] for one in spelled], device=device)
    features: Tensor = clip.get_text_features(ids).pooler_output
    return features.float()


def _state(clip: CLIPModel) -> Any:
    """Return what changes whenever a weight of the text tower is written to or replaced."""
    own = parts.weights(clip.text_model) + parts.weights(clip.text_projection)
    try:
        written = [one._version for one in own]
    except RuntimeError:  # of an inference tensor, which does not count: never the same
        return object()
    return tuple(map(id, own)), tuple(map(Tensor.data_ptr, own)), tuple(written)


def _project(clip: CLIPModel, cls: Tensor) -> Tensor:
    """Project last states (..., D) as CLIPModel.get_image_features does."""
    norm, projection = clip.vision_model.post_layernorm, clip.visual_projection  # a tower may be converted alone
    projected: Tensor = projection(norm(cls.to(norm.weight.dtype)).to(projection.weight.dtype))
    return projected


def _look(clip: CLIPModel, pixels: Tensor) -> Tensor:
    """Run the original CLIP image tower on tiles, batched."""
    features: Tensor = clip.get_image_features(pixels.to(clip.dtype)).pooler_output
    return features


def clip_of(model: PreTrainedModel) -> CLIPModel:
    """Return the whole CLIP that belongs to a model, image tower and all.

    Raises:
        TextTowerError: none on this machine.
    """
    return _find(model, "clip")[0]


def _find(model: PreTrainedModel, kind: Relevance) -> tuple[CLIPModel, Tokenize]:
    """Return the CLIP of a model, loaded at most once; "tower" does without its image encoder, "clip" serves both."""
    with _loading:
        known = _found.setdefault(model, {})
        pair = known.get("clip") or known.get(kind)
        if pair is None:
            pair = _load(model)
            if kind == "tower":
                pair[0].vision_model.encoder = nn.Identity()  # 300 million numbers that are not needed
            known[kind] = pair
    width, channels = pair[0].config.vision_config.hidden_size, model.config.vision_config.hidden_size
    if kind == "tower" and width != channels:
        raise TextTowerError(
            f"the vision tower of this model has {channels} channels, its CLIP {width}: not the CLIP it was made from; "
            "set model.config.herovlm_clip to the right one, or use relevance='clip'"
        )
    return pair


def fetch(config: Any, name: str) -> None:
    """Fetch from the hub the CLIP that belongs to a model, where it is not on this machine; done at the user's word.

    Args:
        config: of the model.
        name: of the model, or its folder.

    Raises:
        TextTowerError: none is known, or it cannot be had.
    """
    _load(SimpleNamespace(config=config, name_or_path=name), download=True)


def here(config: Any, name: str) -> None:
    """Check that the CLIP of a model is on this machine, without its weights.

    Args:
        config: of the model.
        name: of the model, or its folder.

    Raises:
        TextTowerError: it is not.
    """
    with _found_at(SimpleNamespace(config=config, name_or_path=name)) as (place, where):
        CLIPConfig.from_pretrained(place, local_files_only=True, **where)
        AutoTokenizer.from_pretrained(place, local_files_only=True, **where)


def _load(model: Any, download: bool = False) -> tuple[CLIPModel, Tokenize]:
    """Load the CLIP of a model."""
    with _found_at(model) as (place, where):
        where |= {"local_files_only": not download}
        clip = CLIPModel.from_pretrained(place, dtype=torch.float32, **where)
        return clip.eval(), AutoTokenizer.from_pretrained(place, **where)


@contextmanager
def _found_at(model: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the place of the CLIP of a model; what fails within says how to get it."""
    place, where = _place(model)
    if place is None:
        raise TextTowerError(f"no CLIP is known for this vision tower, so the question cannot be scored; {_WAYS_OUT}")
    try:
        yield place, where
    except (OSError, ValueError) as error:
        lost = f"the CLIP {place!r} is not on this machine, so the question cannot be scored; {_WAYS_OUT}"
        if not Path(place).is_absolute():
            lost += (
                f", or download it once with transformers.CLIPModel.from_pretrained({place!r}) and "
                f"AutoTokenizer.from_pretrained({place!r})"
            )
        raise TextTowerError(lost) from error


_WAYS_OUT = (
    "set model.config.herovlm_clip to the folder of the CLIP that the tower was made from, or use a method that needs "
    "no question, such as 'hero(alpha=1)'"
)


def _place(model: Any) -> tuple[str | None, dict[str, Any]]:
    """Find the location of the CLIP of a model and the keywords that from_pretrained needs for it."""
    vision = model.config.vision_config
    named = getattr(model.config, "herovlm_clip", None)
    if named is None:
        shape = (vision.hidden_size, vision.num_hidden_layers, vision.image_size, vision.patch_size)
        return TOWERS.get(shape), {}
    home = Path(model.name_or_path)
    if (home / named).is_dir() or (home.is_dir() and not Path(named).exists() and "/" not in named):
        return str((home / named).absolute()), {}
    if model.name_or_path and not Path(named).exists() and "/" not in named:
        return model.name_or_path, {"subfolder": named}  # a model in the local cache that carries its CLIP along
    return named, {}
