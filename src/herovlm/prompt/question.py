"""The user's own words out of a prompt: no template, no system prompt, no image placeholders.

A chat template that has tokens of its own (Llama 3, ChatML, Gemma, Phi, newer Mistral) is read by these, which no words
can be.  One of plain words ("USER: ... ASSISTANT:") is read by position: the header that ends the prompt says how
headers are spelled; the first of the user's opens a turn, and so does one right behind the end of a sequence or, where
sequences do not end, one behind an answer.  Any other is the user's word.  A lone question that has both headers in the
order of an answered turn ("is ASSISTANT: left of USER:?") looks like two turns there.  Where a prompt does not end in
the answer's header, a question that holds it looks like an answer that was begun.  `question=` decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import groupby
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from herovlm.errors import InputsError

# Chat templates: header of the user's turn, end of a turn, header of the answer.
STYLES: tuple[tuple[str, str, str], ...] = (
    ("<|start_header_id|>user<|end_header_id|>", "<|eot_id|>", "<|start_header_id|>assistant<|end_header_id|>"),
    ("<|im_start|>user", "<|im_end|>", "<|im_start|>assistant"),
    ("<start_of_turn>user", "<end_of_turn>", "<start_of_turn>model"),
    ("<|user|>", "<|end|>", "<|assistant|>"),
    ("<|START_OF_TURN_TOKEN|><|USER_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"),
    ("[INST]", "</s>", "[/INST]"),
)
SIGN = r"<[^<>\s]+>|\[/?[A-Z_]+\]"  # how tokens of templates look
ON, OFF = "\x1e", "\x1f"  # stand around what is one token; both are white space
# Llama 2 writes a system prompt at the start of the first turn.
SYSTEM = re.compile(rf"\A((?:(?!\[INST\]).)*\[INST\]{OFF}?)\s*<<SYS>>.*?<</SYS>>", re.DOTALL)


def from_ids(ids: Tensor, mask: Tensor, image: int, tokenizer: Any) -> str:
    """Read the last question of the user out of one prompt.

    Args:
        ids: (L,) token ids.
        mask: (L,) attention mask; padding is skipped.
        image: token id of the image placeholder.
        tokenizer: the tokenizer of the prompt.
    """
    added = {number: str(token) for number, token in getattr(tokenizer, "added_tokens_decoder", {}).items()}
    signs = {number: token for number, token in added.items() if _is_sign(token)}
    signs |= dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    real = ids[mask != 0]
    apart = (real[1:] != image) | (real[:-1] != image)  # one placeholder stands for thousands in a row
    parts = []
    read = [*real[:1].tolist(), *real[1:][apart].tolist()]
    for sign, run in groupby(read, lambda number: image if number == image else signs.get(number)):
        if sign == image:
            parts.append(" ")
        elif sign is None:
            words = tokenizer.decode(list(run), skip_special_tokens=False)
            parts.append(words.replace(ON, " ").replace(OFF, " "))
        else:
            parts.append(_as_token(sign) * len(list(run)))
    return from_text("".join(parts))


@lru_cache(4096)  # of hundreds that a tokenizer has added, asked for in every call
def _is_sign(token: str) -> bool:
    return re.fullmatch(SIGN, token) is not None


def from_text(prompt: str) -> str:
    """Read the last non-empty turn of the user out of a prompt; a prompt without a template is all the user's.

    What is one token in the prompt stands between `ON` and `OFF`.
    """
    prompt = SYSTEM.sub(r"\1 ", prompt)
    turns = _by_tokens(prompt) or _by_position(prompt)
    cleaned = [" ".join(re.sub(f"{ON}[^{OFF}]*{OFF}", " ", turn).split()) for turn in turns]
    return next((turn for turn in reversed(cleaned) if turn), "")


def _by_tokens(prompt: str) -> list[str]:
    """Split a prompt at the tokens of its template; nothing where it has none."""
    for user, end, answer in STYLES:
        header, first = _marked(user), re.match(SIGN, user)
        others = [_marked(end), _marked(answer), *([_as_token(first[0])] if first else [])]
        turns = prompt.split(header)[1:]
        if turns:
            return [re.split("|".join(map(re.escape, others)), turn)[0] for turn in turns]
    return []


def _by_position(prompt: str) -> list[str]:
    """Split a prompt whose template is plain words; all of it is one turn where there is no template."""
    prompt = stripped(prompt)
    user, answer = _headers(prompt)
    headers = [] if user is None else list(re.finditer(user, prompt))
    if not headers:
        return [prompt]
    firm = [one for one in headers[1:] if prompt[: one.start()].rstrip(" \n\t").endswith(OFF)]
    opened = headers[:1]
    for one in firm or headers[1:]:
        if firm or re.search(answer, prompt[opened[-1].end() : one.start()]):
            opened.append(one)
    ends = [*(one.start() for one in opened[1:]), len(prompt)]
    turns = [prompt[one.end() : end] for one, end in zip(opened, ends, strict=True)]
    return [turn[: max((one.start() for one in re.finditer(answer, turn)), default=len(turn))] for turn in turns]


def stripped(prompt: str) -> str:
    """Take white space and marked tokens off the end, in one pass: a regular expression would need a square of it."""
    end = len(prompt)
    while end:
        before = prompt.rfind(OFF, 0, end - 1) + 1 if prompt[end - 1] == OFF else end
        if (start := prompt.find(ON, before, end - 1)) >= 0:
            end = start
        elif prompt[end - 1].isspace():
            end -= 1
        else:
            break
    return prompt[:end]


def _headers(prompt: str) -> tuple[str | None, str]:
    """Find how the headers of user and answer are spelled, by the one that ends the prompt, or else by its start."""
    start = re.sub(f"{ON}[^{OFF}]*{OFF}", " ", prompt).lstrip()
    for user, end, answer in STYLES:
        if prompt.endswith(answer) or start.startswith(user):
            return re.escape(user), rf"(?:{re.escape(end)}\s*)?{re.escape(answer)}"
    found = re.search(r"(?i)(?P<mark>(?:###\s*)?)(?P<who>assistant):\Z", prompt)
    line = "" if found is None or prompt[: found.start()][-1:] != "\n" else r"\n"  # then every answer has a line
    found = found or re.match(r"(?i)(?P<mark>(?:###\s*)?)(?P<who>user|human):", start)
    if found is None:
        return None, ""
    mark = r"###\s*" if found["mark"] else ""
    who = found["who"]
    case: Callable[[str], str] = str.upper if who.isupper() else str.lower if who.islower() else str.title
    return rf"(?<!\S){mark}(?:{case('user')}|{case('human')}):", rf"{line}{mark}{case('assistant')}:"


def _as_token(sign: str) -> str:
    return f"{ON}{sign}{OFF}"


def _marked(header: str) -> str:
    """Mark what looks like a token as one."""
    return re.sub(SIGN, lambda found: _as_token(found[0]), header)


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
    with _loading:
        if model not in _found:
            try:
                _found[model] = AutoTokenizer.from_pretrained(model.name_or_path, local_files_only=True)
            except (OSError, ValueError):
                _found[model] = None
        return _found[model]


_loading = Lock()
_found: WeakKeyDictionary[PreTrainedModel, Any] = WeakKeyDictionary()
