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
    if image in question:
        raise InputsError(f"the question contains {image!r}, which stands for a picture; write it another way")
    if getattr(processor, "chat_template", None):
        content = [{"type": "image"}] * pictures + [{"type": "text", "text": question}]
        turns = [{"role": "user", "content": content}]
        text = str(processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))
        if text.count(image) == pictures:
            return text
    return f"USER: {image * pictures}\n{question} ASSISTANT:"
