"""Packed questions are only a faster way to compute the loss that transformers computes one by one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from training.demo import data, llm, tower, words


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return words.wrap(words.train(), "<s> $A", llm.CONTEXT)


@pytest.mark.parametrize("renumber", [False, True])
@torch.no_grad()
def test_packed_loss_is_the_loss_of_each_question(tokenizer: PreTrainedTokenizerFast, renumber: bool) -> None:
    torch.manual_seed(0)
    stage = llm.stage(tower.build(len(tokenizer)), tokenizer).eval()
    (batch,) = itertools.islice(llm.whole(tokenizer, 0, 8_000, renumber=renumber), 1)
    assert (batch.gaps is None) != renumber
    row = 1  # numbered as if some positions were not there, if any is
    batch = llm.Batch(
        batch.tiles[row : row + 1],
        batch.sizes[row : row + 1],
        [batch.branches[row][:4]],
        batch.targets[row : row + 1],
        batch.room,
        None if batch.gaps is None else batch.gaps[row : row + 1],
    )
    _, told = stage(batch)
    images, _ = stage.images(batch)
    losses, weights = [], []
    for one in batch.branches[0]:
        head = [words.BOS, *stage.head]
        prefix = head + [words.IMAGE] * len(images[0])
        full = torch.tensor([prefix + one.ids])
        steps = torch.ones_like(full)
        if batch.gaps is not None:
            steps[0, len(head) : len(prefix)] = batch.gaps[0, : len(images[0])]
            assert 0 < steps.sum() < steps.numel()
        labels = full.clone()
        labels[:, : len(prefix) + one.start] = -100
        embeds = stage.llava.get_input_embeddings()(full)
        embeds[full == words.IMAGE] = images[0]
        body = stage.llava.model.language_model
        # a cache keeps transformers from reading the gaps as packed sequences
        states = body(inputs_embeds=embeds, position_ids=steps.cumsum(1) - 1, use_cache=True).last_hidden_state
        logits = stage.llava.lm_head(states)[0, :-1]
        weight = llm.SHORT if len(one.ids) - one.start <= 3 else 1.0
        wanted = labels[0, 1:]
        losses.append(weight * torch.nn.functional.cross_entropy(logits, wanted, ignore_index=-100, reduction="sum"))
        weights.append(weight * (len(one.ids) - one.start))
    assert told["answers"] == pytest.approx(float(torch.stack(losses).sum()) / sum(weights), rel=1e-4)


@pytest.mark.parametrize("make", [llm.whole, llm.single])
def test_every_answer_of_a_batch_fits_and_is_told(tokenizer: PreTrainedTokenizerFast, make: Any) -> None:
    (batch,) = itertools.islice(make(tokenizer, 0, 8_000), 1)
    ids, targets, _ = llm.layout(batch.branches)
    assert ids.shape == (len(batch.tiles), llm.FULL.questions, llm.LENGTH)
    for row, several in enumerate(batch.branches):
        for number, one in enumerate(several):
            told = targets[row, number][targets[row, number] != data.IGNORE].tolist()
            assert told == one.ids[one.start :]
            assert told[-1] == words.EOS


def test_digits_are_tokens_of_their_own_and_text_comes_back(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer(" 4.72", add_special_tokens=False).input_ids
    assert len(ids) == 5
    assert tokenizer.decode(ids) == " 4.72"
    assert tokenizer.decode(tokenizer("Is it ünlike ☃?", add_special_tokens=False).input_ids) == "is it ünlike ☃?"
