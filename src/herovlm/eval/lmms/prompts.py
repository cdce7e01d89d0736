"""What a task of lmms-eval asks for: messages with pictures, and options of generation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from herovlm.errors import InputsError, ModelError, UnsupportedError
from herovlm.pictures import open_picture


@dataclass(frozen=True)
class Prompt:
    """One prompt as the checkpoint's chat template writes it."""

    text: str
    pictures: tuple[Image.Image, ...]  # RGB, in the order of their placeholders
    question: str  # the user's last words, which relevance is scored by


def prompt_of(messages: Sequence[Mapping[str, Any]], processor: Any) -> Prompt:
    """Write messages, [{"role": ..., "content": [{"type": "image", "url": ...}, {"type": "text", ...}]}], as a prompt.

    Raises:
        ModelError: the checkpoint has no chat template.
        UnsupportedError: there is a video or sound in it.
        InputsError: the text holds the placeholder of a picture.
        PictureError: a picture cannot be opened.
    """
    if not getattr(processor, "chat_template", None):
        raise ModelError("the checkpoint has no chat template, so nobody knows how it wants to be asked; add one to it")
    turns, pictures = [], []
    for message in messages:
        content = []
        for part in message["content"]:
            if part["type"] == "text":
                content.append({"type": "text", "text": part["text"]})
            elif part["type"] == "image":
                content.append({"type": "image"})
                pictures.append(open_picture(part["url"]))
            else:
                raise UnsupportedError(f"the task shows a {part['type']}; herovlm serves tasks of pictures and text")
        turns.append({"role": message["role"], "content": content})
    text = str(processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))
    if text.count(processor.image_token) != len(pictures):
        raise InputsError(
            f"{text.count(processor.image_token)} placeholders {processor.image_token!r} for {len(pictures)} pictures: "
            f"the text of the task holds some of its own: {text[:200]!r}"
        )
    return Prompt(text, tuple(pictures), _question(turns))


def generation_of(asked: Mapping[str, Any], longest: int) -> tuple[dict[str, Any], list[str], list[str]]:
    """Read `generation_kwargs` of a task.

    Args:
        asked: the options; a temperature of 0, or none, is greedy, whatever else is said of sampling.
        longest: tokens of an answer where the task does not say.

    Returns:
        Options of `generate`, the strings that end an answer, and the names of what `generate` does not know.
    """
    from transformers import GenerationConfig

    known = GenerationConfig().to_dict()
    until = asked.get("until") or []
    options = {"max_new_tokens": longest, **{name: value for name, value in asked.items() if name in known}}
    if not (options.get("do_sample", True) and (options.get("temperature") or 0) > 0):
        options |= {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    else:
        options["do_sample"] = True
    unknown = [name for name in asked if name not in known and name != "until"]
    return options, [until] if isinstance(until, str) else list(until), unknown


def cut(text: str, until: Iterable[str]) -> str:
    """End an answer before the first of some strings."""
    text = text.strip()
    ends = [text.find(end) for end in until if end and end in text]
    return text[: min(ends, default=len(text))].strip()


def _question(turns: Sequence[Mapping[str, Any]]) -> str:
    """Join the words of the user's last turn."""
    user = [turn for turn in turns if turn["role"] == "user"]
    return " ".join(part["text"] for part in (user[-1]["content"] if user else []) if part["type"] == "text").strip()
