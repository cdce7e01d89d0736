"""A question as a prompt: the processor's own chat template, or USER and ASSISTANT where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from herovlm.errors import InputsError

MARK = "\N{WHITE STAR}"  # stands for a text while a template is asked how it writes a picture


def prompt(processor: Any, question: str, pictures: int = 1) -> str:
    """Write the prompt of a question about `pictures` pictures, which stand before it.

    Raises:
        InputsError: the question holds the placeholder of a picture.
    """
    image = _checked(processor, question)
    if getattr(processor, "chat_template", None):
        text, without = (_chat(processor, question, count) for count in (pictures, 0))
        if text != without or not pictures:  # a template of a language model alone leaves pictures out
            return text
    return f"USER: {image * pictures}\n{question} ASSISTANT:"


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
    written, without = (_chat(processor, MARK, count) for count in (1, 0))
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


def _chat(processor: Any, question: str, pictures: int) -> str:
    """Write a chat of one turn with the processor's own template."""
    content = [{"type": "image"}] * pictures + [{"type": "text", "text": question}]
    turns = [{"role": "user", "content": content}]
    return str(processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))
