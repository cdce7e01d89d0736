"""A hook acts for the thread that asked, not for others, graphs or copies; loading happens once."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
from made_towers import make_tower, pixels
from torch import nn

import herovlm
from herovlm.prompt import question
from herovlm.seams import hooks
from herovlm.towers import recording, relevance


def elsewhere(function: Callable[[], Any]) -> Any:
    """What a function returns, or raises, in a thread of its own."""
    found: list[Any] = []

    def body() -> None:
        try:
            found.append(function())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def test_recorders_do_not_see_another_thread() -> None:
    tower, given, other = make_tower(), pixels()[:2], pixels()
    with torch.no_grad():
        with recording.cls_rows(tower, (1,)) as want:
            tower(given)
        with (
            recording.cls_rows(tower, (1,)) as rows,
            recording.inputs_of(tower.encoder.layers[0], wanted=True) as states,
        ):
            tower(given)
            elsewhere(lambda: tower(other))
    assert torch.equal(rows[1], want[1])
    assert [len(x) for x in states] == [2]


def test_changes_do_not_reach_another_thread() -> None:
    layer, x = nn.Linear(2, 2), torch.ones(1, 2)
    want = layer(x)
    with hooks.changing({layer: torch.zeros_like}, {layer: torch.neg}):
        assert torch.equal(elsewhere(lambda: layer(x)), want)
        assert torch.equal(layer(x), -layer.bias[None])


def test_a_hook_that_is_taken_off_meanwhile_does_nothing() -> None:
    """torch reads which hooks take keywords behind the list of hooks: the first one here takes the second one off."""
    layer = nn.Identity()
    called: list[Any] = []
    handles: list[Any] = []
    layer.register_forward_pre_hook(lambda _module, _args: handles[0].remove())
    handles.append(hooks.before(layer, lambda *given: called.append(given), hooks.everybody, keywords=True))
    layer(torch.ones(1))
    assert called == []


def test_copies_are_plain_modules() -> None:
    layer, x = nn.Linear(2, 2), torch.ones(1, 2)
    want = layer(x)
    with hooks.changing({layer: torch.zeros_like}, {layer: torch.neg}):
        copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
        for one in copies:
            assert torch.equal(one(x), want)
    for one in copies:
        assert torch.equal(one(x), want)


def test_hooks_of_many_threads_are_told_apart() -> None:
    layer, barrier = nn.Identity(), threading.Barrier(8)

    def work(number: int) -> bool:
        barrier.wait()
        good = True
        for turn in range(50):
            wanted = torch.tensor([number, turn])
            with hooks.changing({layer: lambda _x, y=wanted: y}, {}):
                good &= torch.equal(layer(torch.zeros(2)), wanted)
        return good

    results: list[bool] = []
    jobs = [threading.Thread(target=lambda k=k: results.append(work(k))) for k in range(8)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert results == [True] * 8
    assert not layer._forward_pre_hooks


@pytest.mark.parametrize("what", ["clip", "tokenizer"])
def test_threads_load_once_and_wait(models: Any, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    small = models("llava_next")
    loads: list[int] = []
    entered, others = threading.Event(), threading.Event()

    def load(*_args: Any, **_kwargs: Any) -> Any:
        loads.append(threading.get_ident())
        entered.set()
        others.wait(0.2)  # whoever would load beside comes in meanwhile
        return (tiny.make_clip(), tiny.clip_tokenizer()) if what == "clip" else tiny.tokenizer()

    model = copy.copy(small.model)  # one that nothing is known of
    if what == "clip":
        monkeypatch.setattr(relevance, "_load", load)
        ask: Callable[[], Any] = lambda: relevance._find(model, "tower")  # noqa: E731
    else:
        monkeypatch.setattr(question.AutoTokenizer, "from_pretrained", load)
        ask = lambda: question._beside(model)  # noqa: E731
    found: list[Any] = []
    first = threading.Thread(target=lambda: found.append(ask()))
    first.start()
    entered.wait()
    second = threading.Thread(target=lambda: (found.append(ask()), others.set()))
    second.start()
    first.join()
    second.join()
    assert len(loads) == 1
    assert found[0] is found[1]
    if what == "clip":
        assert isinstance(found[0][0].vision_model.encoder, nn.Identity)


def test_drop_in_three_threads(models: Any) -> None:
    """What was reported: of 30 calls 15 raised and 4 to 8 kept something else."""
    small = models("llava_next")
    given = [small.inputs([[tiny.picture(60, 31, n)]], ["USER: <image>\nHi? ASSISTANT:"]) for n in range(6)]

    def cut(number: int) -> torch.Tensor:
        return herovlm.drop(small.model, given[number], method="hired", keep=0.2).kept[0].mask

    want = [cut(number) for number in range(6)]
    right: list[bool] = []

    def work(start: int) -> None:
        right.extend(torch.equal(cut(number % 6), want[number % 6]) for number in range(start, start + 10))

    jobs = [threading.Thread(target=work, args=(start,)) for start in (0, 2, 4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert right == [True] * 30
