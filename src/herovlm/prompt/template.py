"""A question as a prompt: the processor's own chat template, or USER and ASSISTANT where there is none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from herovlm.errors import InputsError

MARK = "\N{WHITE STAR}"  # stands for a text while a template is asked how it writes a picture
Turn = Sequence[str | None]  # what one side says; None is a picture


def prompt(processor: Any, question: str, pictures: int = 1) -> str:
    """Write the prompt of a question about `pictures` pictures, which stand before it.

    Raises:
        InputsError: the question holds the placeholder of a picture.
    """
    return chat(processor, [[*[None] * pictures, question]])


def chat(processor: Any, turns: Sequence[Turn]) -> str:
    """Write a chat that the user opens and the model is to answer; where pictures stand in a turn is the template's.

    Raises:
        InputsError: a turn holds the placeholder of a picture in words.
    """
    image = _checked(processor, *(part for turn in turns for part in turn if part is not None))
    if getattr(processor, "chat_template", None):
        shown, hidden = (_written(processor, turns, pictures) for pictures in (True, False))
        if shown != hidden or all(part is not None for turn in turns for part in turn):
            return shown  # a template of a language model alone leaves pictures out
    said = [f"{('USER', 'ASSISTANT')[n % 2]}: {_plain(turn, image)}" for n, turn in enumerate(turns)]
    return " ".join([*said, "ASSISTANT:"])


def interleaved(processor: Any, parts: Sequence[str | None]) -> str:
    """Write the prompt of one turn in which pictures stand between texts.

    Many templates put all pictures first, so the template is asked how it writes one, and that is put into the text.

    Args:
        processor: of the model.
        parts: texts, and None where a picture stands.

    Raises:
        InputsError: a text holds the placeholder of a picture.
    """
    image = _checked(processor, *(part for part in parts if part is not None))
    if not getattr(processor, "chat_template", None):
        return f"USER: {''.join(image if part is None else part for part in parts)} ASSISTANT:"
    written, without = (_written(processor, [[None, MARK]], pictures) for pictures in (True, False))
    before, _, behind = without.partition(MARK)
    own = written.removeprefix(before.rstrip()).removesuffix(MARK + behind).strip()
    own = image if not own or MARK in own else own  # a template of a language model alone leaves the picture out
    return without.replace(MARK, "".join(own if part is None else part for part in parts))


def _checked(processor: Any, *texts: str) -> str:
    """Check that no text holds the placeholder of a picture, and return it."""
    image = str(getattr(processor, "image_token", "<image>"))
    for token in (image, getattr(processor, "boi_token", None)):  # either may stand for a picture in a prompt
        if token and any(token in text for text in texts):
            raise InputsError(f"the question contains {token!r}, which stands for a picture; write it another way")
    return image


def _plain(turn: Turn, image: str) -> str:
    """Write what one side says; a line ends behind pictures."""
    words = "".join(f"\0{image}" if part is None else part for part in turn)
    return re.sub(rf"(\0{re.escape(image)})+", lambda run: run[0].replace("\0", "") + "\n", words)


def _written(processor: Any, turns: Sequence[Turn], pictures: bool) -> str:
    """Write a chat with the processor's own template, with its pictures or without."""
    said = []
    for n, turn in enumerate(turns):
        parts = [{"type": "image"} if part is None else {"type": "text", "text": part} for part in turn]
        content = [part for part in parts if pictures or part["type"] == "text"]
        said.append({"role": ("user", "assistant")[n % 2], "content": content})
    return str(processor.apply_chat_template(said, add_generation_prompt=True, tokenize=False))
