"""Packed questions are only a faster way to compute the loss that transformers computes one by one."""

from __future__ import annotations

import itertools

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from training.demo import llm, tower, words


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return words.wrap(words.train(), "<s> $A", llm.CONTEXT)


@torch.no_grad()
def test_packed_loss_is_the_loss_of_each_question(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    stage = llm.stage(tower.build(len(tokenizer)), tokenizer).eval()
    (batch,) = itertools.islice(llm.whole(tokenizer, 0, 8_000), 1)
    batch = llm.Batch(batch.tiles[:1], batch.sizes[:1], [batch.branches[0][:4]], batch.targets[:1])
    _, told = stage(batch)
    images, _ = stage.images(batch)
    losses, weights = [], []
    for ids, answer in batch.branches[0]:
        prefix = [words.BOS, *stage.head] + [words.IMAGE] * len(images[0])
        full = torch.tensor([prefix + ids])
        labels = full.clone()
        labels[:, : len(prefix) + answer] = -100
        embeds = stage.llava.get_input_embeddings()(full)
        embeds[full == words.IMAGE] = images[0]
        loss = stage.llava.model.language_model(inputs_embeds=embeds).last_hidden_state
        logits = stage.llava.lm_head(loss)[0, :-1]
        weight = llm.SHORT if len(ids) - answer <= 3 else 1.0
        wanted = labels[0, 1:]
        losses.append(weight * torch.nn.functional.cross_entropy(logits, wanted, ignore_index=-100, reduction="sum"))
        weights.append(weight * (len(ids) - answer))
    assert told["answers"] == pytest.approx(float(torch.stack(losses).sum()) / sum(weights), rel=1e-4)


def test_digits_are_tokens_of_their_own_and_text_comes_back(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer(" 4.72", add_special_tokens=False).input_ids
    assert len(ids) == 5
    assert tokenizer.decode(ids) == " 4.72"
    assert tokenizer.decode(tokenizer("Is it ünlike ☃?", add_special_tokens=False).input_ids) == "is it ünlike ☃?"
