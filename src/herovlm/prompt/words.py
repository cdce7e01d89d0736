"""The words of the question as the language model reads them: its own input embeddings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from herovlm.errors import InputsError
from herovlm.prompt import question as questions
from herovlm.seams import offload
from herovlm.types import Words

# Words that ask and do not name: MMTok (arXiv 2508.18264) leaves them out.
STOP = frozenset(
    {"a", "an", "the", "what", "which", "who", "whom", "whose", "when", "where", "why", "how"}
    | {"is", "are", "was", "were", "be", "been", "being", "am", "do", "does", "did", "has", "have", "had"}
    | {"can", "could", "will", "would", "shall", "should", "may", "might", "must", "to", "it", "question"}
)
# What benchmarks append to a question; it is about the answer.
INSTRUCTIONS = (
    "Answer the question using a single word or phrase.",
    "Answer with the option's letter from the given choices directly.",
)


_found: WeakKeyDictionary[PreTrainedModel, Any] = WeakKeyDictionary()


def attach(model: PreTrainedModel, tokenizer: Any) -> None:
    """Set the tokenizer that spells a question for this model where no processor is given."""
    _found[model] = tokenizer


def keywords(question: str) -> str:
    """Leave out of a question what names nothing; where nothing would be left, only the benchmark's instruction."""
    for sentence in INSTRUCTIONS:
        question = question.replace(sentence, " ")
    words = [word for word in re.findall(r"\w+", question) if word.lower() not in STOP]
    return " ".join(words or question.split())


@torch.no_grad()
def embed(model: PreTrainedModel, processor: Any, question: str, kinds: Sequence[Words]) -> dict[Words, Tensor]:
    """Embed the words of one question: kind -> (m, D) float32 input embeddings of the language model.

    Args:
        model: the model whose words are meant.
        processor: its processor or tokenizer; None takes the one beside its weights.
        question: the user's own words.
        kinds: "all" words of the question, or its "keywords".

    Raises:
        InputsError: no tokenizer, or no question.
    """
    tokenizer = _tokenizer(processor, model)
    table, found = model.get_input_embeddings(), {}
    for kind in kinds:
        text = keywords(question) if kind == "keywords" else question
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        if not ids.numel():
            raise InputsError("no question was found, and this method compares patches with its words; pass question=")
        found[kind] = table(ids[0].to(offload.home(table))).detach().float()
    return found


def _tokenizer(processor: Any, model: PreTrainedModel) -> Any:
    if processor is None and model in _found:
        return _found[model]
    try:
        return questions.tokenizer_of(processor, model)
    except InputsError:
        raise InputsError(
            "this method compares patches with the words of the question as the language model reads them: pass "
            "processor=; or use a method that needs no question, such as 'hero(alpha=1)'"
        ) from None
