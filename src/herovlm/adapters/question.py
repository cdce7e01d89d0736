"""The user's own words out of a prompt: no template, no system prompt, no image placeholders."""

from __future__ import annotations

import re
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from herovlm.errors import InputsError

# Headers of common chat templates: (header of the user's turn, header of any other turn or end of a turn).
# The first style whose user header occurs in the prompt is the prompt's style.
STYLES: tuple[tuple[str, str], ...] = (
    (r"<\|start_header_id\|>user<\|end_header_id\|>", r"<\|start_header_id\|>\w+<\|end_header_id\|>|<\|eot_id\|>"),
    (r"<\|im_start\|>user\n?", r"<\|im_start\|>\w+|<\|im_end\|>"),
    (r"<start_of_turn>user\n?", r"<start_of_turn>\w+|<end_of_turn>"),
    (r"<\|user\|>\n?", r"<\|(?:assistant|system|end|endoftext)\|>"),
    (r"\[INST\]", r"\[/INST\]"),
    (r"(?i:(?:^|(?<=[\s>]))(?:###\s*)?(?:user|human):)", r"(?i:(?:^|(?<=[\s>]))(?:###\s*)?assistant:)"),
)
SYSTEM = re.compile(r"<<SYS>>.*?<</SYS>>|\[SYSTEM_PROMPT\].*?\[/SYSTEM_PROMPT\]", re.DOTALL)


def from_ids(ids: Tensor, mask: Tensor, image: int, tokenizer: Any) -> str:
    """Read the last question of the user out of one prompt.

    Args:
        ids: (L,) token ids.
        mask: (L,) attention mask; padding is skipped.
        image: token id of the image placeholder.
        tokenizer: anything with `decode` and `all_special_tokens`.
    """
    words = ids[(mask != 0) & (ids != image)]
    return from_text(tokenizer.decode(words.tolist(), skip_special_tokens=False), tuple(tokenizer.all_special_tokens))


def from_text(prompt: str, special: tuple[str, ...] = ()) -> str:
    """Read the last non-empty turn of the user out of a prompt; a prompt without a template is all the user's."""
    prompt = SYSTEM.sub(" ", prompt)
    turns = [prompt]
    for user, other in STYLES:
        if re.search(user, prompt):
            turns = [re.split(f"{user}|{other}", part)[0] for part in re.split(user, prompt)[1:]]
            break
    cleaned = [_clean(turn, special) for turn in turns]
    return next((turn for turn in reversed(cleaned) if turn), "")


def _clean(turn: str, special: tuple[str, ...]) -> str:
    """Remove special tokens and fold white space."""
    for token in sorted(special, key=len, reverse=True):
        turn = turn.replace(token, " ")
    return " ".join(turn.split())


def tokenizer_of(processor: Any, model: PreTrainedModel | None = None) -> Any:
    """Return the text tokenizer of a processor (or the tokenizer itself); without one, that of the model's own folder.

    Raises:
        InputsError: there is none.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    if processor is None and model is not None and model.name_or_path:
        tokenizer = _beside(model)
    if not hasattr(tokenizer, "decode"):
        raise InputsError(
            "this method scores the question, which is in the prompt: pass processor= (to read it from input_ids) "
            "or question='...'; or use a method that needs no question, such as 'hero(alpha=1)'"
        )
    return tokenizer


def _beside(model: PreTrainedModel) -> Any:
    """Load the tokenizer that lies beside the weights of a model, once and never from the network; None without one."""
    if model not in _found:
        try:
            _found[model] = AutoTokenizer.from_pretrained(model.name_or_path, local_files_only=True)
        except (OSError, ValueError):
            _found[model] = None
    return _found[model]


_found: WeakKeyDictionary[PreTrainedModel, Any] = WeakKeyDictionary()
