"""A question as a prompt: the processor's own chat template, or USER and ASSISTANT where there is none."""

from __future__ import annotations

from typing import Any

from herovlm.errors import InputsError


def prompt(processor: Any, question: str, pictures: int = 1) -> str:
    """Write the prompt of a question about `pictures` pictures, which stand before it.

    Raises:
        InputsError: the question holds the placeholder of a picture.
    """
    image = getattr(processor, "image_token", "<image>")
    for token in (image, getattr(processor, "boi_token", None)):  # either may stand for a picture in a prompt
        if token and token in question:
            raise InputsError(f"the question contains {token!r}, which stands for a picture; write it another way")
    if getattr(processor, "chat_template", None):
        text, without = (_chat(processor, question, count) for count in (pictures, 0))
        if text != without or not pictures:  # a template of a language model alone leaves pictures out
            return text
    return f"USER: {image * pictures}\n{question} ASSISTANT:"


def _chat(processor: Any, question: str, pictures: int) -> str:
    """Write a chat of one turn with the processor's own template."""
    content = [{"type": "image"}] * pictures + [{"type": "text", "text": question}]
    turns = [{"role": "user", "content": content}]
    return str(processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))
