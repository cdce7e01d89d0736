"""Any number of threads and tasks on one model: each gets what it asked for, and nothing is left behind."""

from __future__ import annotations

import asyncio
import copy
import gc
import itertools
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import tiny
import torch
from transformers import TextIteratorStreamer

import herovlm
from herovlm import api
from herovlm.errors import UnsupportedError

LAYERS = 5
GREEDY = {"max_new_tokens": 4, "do_sample": False}
PLANS: list[dict[str, Any]] = [  # what each of eight threads asks for
    {"method": "random", "keep": 0.2},
    {"method": "hired", "keep": 0.5, "narrow": (1, 0.75)},
    {"method": "random + fastv(layer=2, keep=0.5)", "keep": 0.6},
    {"method": "hired + pyramiddrop", "keep": 0.8},
    {"method": "visionzip", "keep": 0.3},
    {"method": "full + fastv(layer=1, keep=0.3)"},
    {"method": "divprune", "keep": 0.3, "positions": "original"},
    {"method": "vtc_cls", "keep": 0.4, "narrow": (1, 0.5)},
]


@pytest.fixture
def small(models: Any) -> tiny.Tiny:
    return models(layers=LAYERS)


@pytest.fixture
def prompts(small: tiny.Tiny) -> list[Any]:
    return [small.inputs([[tiny.picture(60, 31, n)]], [f"USER: <image>\nNo {n}? ASSISTANT:"]) for n in range(2)]


@pytest.fixture(autouse=True)
def no_trace(models: Any) -> Iterator[None]:
    """Every test of this file leaves models, threads and pools as it found them."""
    parts = threading.Thread.start, ThreadPoolExecutor.submit
    yield
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == parts
    for model in (models(layers=LAYERS).model, models(text="qwen2").model):
        assert {"generate", "forward"} & vars(model).keys() == set()
        hooks = [hook for m in model.modules() for hook in (m._forward_hooks | m._forward_pre_hooks).values()]
        assert [hook for hook in hooks if "herovlm" in str(getattr(hook, "__module__", ""))] == []


def together(*works: Callable[[], Any]) -> list[Any]:
    """What each work returns, all done at once in threads of their own; the first error is raised."""
    found: list[Any] = [None] * len(works)
    barrier = threading.Barrier(len(works))

    def body(number: int) -> None:
        barrier.wait()
        try:
            found[number] = works[number]()
        except BaseException as error:
            found[number] = error

    jobs = [threading.Thread(target=body, args=(number,)) for number in range(len(works))]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


def generated(model: Any, prompt: Any, **plan: Any) -> list[Any]:
    """Tokens, and what the record says of them."""
    with herovlm.dropping(model, **plan) as record:
        tokens = model.generate(**prompt, **GREEDY)
        with torch.no_grad():
            logits = model(**prompt).logits[:, -1]
    assert record.last is not None
    return [tokens, logits, *(k.mask for k in record.last.kept), *(torch.tensor(k.positions) for k in record.inside)]


def dropped(model: Any, prompt: Any, **plan: Any) -> list[Any]:
    return [*(kept.mask for kept in herovlm.drop(model, prompt, **plan).kept)]


def plain(model: Any, prompt: Any) -> list[Any]:
    with torch.no_grad():
        return [model.generate(**prompt, **GREEDY), model(**prompt).logits]


def same(got: list[Any], want: list[Any]) -> bool:
    return len(got) == len(want) and all(map(torch.equal, got, want))


def test_each_thread_gets_what_it_asked_for(models: Any, small: tiny.Tiny, prompts: list[Any]) -> None:
    model, other = small.model, models(text="qwen2").model
    jobs: list[Callable[[], list[Any]]] = []
    for plan, prompt in itertools.product(PLANS, prompts):
        jobs.append(lambda plan=plan, prompt=prompt: generated(model, prompt, **plan))
    for prompt in prompts:
        jobs.append(lambda prompt=prompt: plain(model, prompt))
        jobs.append(lambda prompt=prompt: dropped(model, prompt, method="hired", keep=0.3))
        jobs.append(lambda prompt=prompt: dropped(model, prompt, method="vtc_cls", keep=0.3, narrow=(1, 0.5)))
        jobs.append(lambda prompt=prompt: generated(other, prompt, method="hired", keep=0.3))
    wanted = [job() for job in jobs]
    assert len({tuple(map(tuple, want[0].tolist())) for want in wanted[::2] if want[0].ndim == 2}) > 3

    def work(start: int) -> list[int]:
        turns = [(start + turn) % len(jobs) for turn in range(0, 5 * 4, 5)]
        return [number for number in turns if not same(jobs[number](), wanted[number])]

    assert together(*(lambda start=start: work(start) for start in range(8))) == [[]] * 8


def test_two_contexts_and_a_thread_that_asked_for_nothing(small: tiny.Tiny, prompts: list[Any]) -> None:
    """What was reported: both shared one, and the third was given 35 columns instead of 283."""
    model, (prompt, *_) = small.model, prompts
    inside, leave = threading.Barrier(3), threading.Barrier(3)
    want = plain(model, prompt)

    def asks(share: float) -> int:
        with herovlm.dropping(model, method="random", keep=share) as record:
            inside.wait()
            model.generate(**prompt, **GREEDY)
            leave.wait()
        assert record.last is not None
        return record.last.kept[0].positions

    def asks_for_nothing() -> bool:
        inside.wait()
        result = same(plain(model, prompt), want)
        leave.wait()
        return result

    few, more = (herovlm.drop(model, prompt, method="random", keep=k).kept[0].positions for k in (0.1, 0.4))
    assert together(lambda: asks(0.1), lambda: asks(0.4), asks_for_nothing) == [few, more, True]


@pytest.mark.parametrize("method", ["random", "random + fastv(layer=2, keep=0.5)"])
def test_what_is_started_inside_belongs_inside(small: tiny.Tiny, prompts: list[Any], method: str) -> None:
    model, (prompt, *_) = small.model, prompts
    words = small.processor.tokenizer
    plan: dict[str, Any] = {"method": method, "keep": 0.4}
    want = generated(model, prompt, **plan)[0]
    assert not torch.equal(want, plain(model, prompt)[0])
    found: list[Any] = []

    class Job(threading.Thread):
        def run(self) -> None:
            found.append(model.generate(**prompt, **GREEDY))

    with ThreadPoolExecutor(1) as before:
        before.submit(int).result()  # a worker that was there before
        with herovlm.dropping(model, **plan), ThreadPoolExecutor(2) as pool:
            streamer = TextIteratorStreamer(words, skip_prompt=True)
            first = threading.Thread(target=model.generate, kwargs={**prompt, **GREEDY, "streamer": streamer})
            jobs = [first, Job(), threading.Thread(target=lambda: found.append(model.generate(**prompt, **GREEDY)))]
            jobs.append(threading.Timer(0, lambda: found.append(model.generate(**prompt, **GREEDY))))
            for job in jobs:
                job.start()
            tasks = [each.submit(model.generate, **prompt, **GREEDY) for each in (pool, pool, pool, before)]
            said = "".join(streamer)
            for job in jobs:
                job.join()
            found += [task.result() for task in tasks]
            late = pool
            assert "run" not in vars(jobs[1])
        assert not torch.equal(before.submit(model.generate, **prompt, **GREEDY).result(), want)
    assert late is not None
    assert len(found) == 7
    for tokens in found:
        assert torch.equal(tokens, want)
    assert said == words.decode(want[0, prompt["input_ids"].shape[1] :])


def test_a_worker_that_was_started_inside_serves_others_as_they_ask(small: tiny.Tiny, prompts: list[Any]) -> None:
    model, (prompt, *_) = small.model, prompts
    want = plain(model, prompt)[0]
    with ThreadPoolExecutor(1) as pool, ExitStack() as open_in_another_thread:

        def opened() -> Any:
            open_in_another_thread.enter_context(herovlm.dropping(model, method="random", keep=0.3))
            return pool.submit(model.generate, **prompt, **GREEDY).result()

        (short,) = together(opened)
        assert not torch.equal(short, want)
        assert torch.equal(pool.submit(model.generate, **prompt, **GREEDY).result(), want)
        assert torch.equal(together(lambda: model.generate(**prompt, **GREEDY))[0], want)


@pytest.mark.parametrize("method", ["random", "random + fastv(layer=2, keep=0.5)"])
@pytest.mark.parametrize("direct", [False, True])
def test_a_call_that_began_inside_goes_on_when_the_context_ends(
    small: tiny.Tiny, prompts: list[Any], method: str, direct: bool
) -> None:
    model, (prompt, *_) = small.model, prompts
    plan: dict[str, Any] = {"method": method, "keep": 0.4}
    want, whole = generated(model, prompt, **plan)[direct], plain(model, prompt)
    begun, ended, found = threading.Event(), threading.Event(), []

    def wait(*_given: Any) -> None:
        if threading.current_thread() is child:
            begun.set()
            ended.wait()

    @torch.no_grad()
    def body() -> None:
        found.append(model(**prompt).logits[:, -1] if direct else model.generate(**prompt, **GREEDY))
        found.extend(plain(model, prompt))

    child = threading.Thread(target=body)
    hook = model.model.language_model.layers[0].register_forward_pre_hook(wait)
    with herovlm.dropping(model, **plan):
        child.start()
        begun.wait()
    ended.set()
    child.join()
    hook.remove()
    assert torch.equal(found[0], want)
    assert same(found[1:], whole)


def test_contexts_end_in_any_order(models: Any, small: tiny.Tiny, prompts: list[Any]) -> None:
    model, other, (prompt, *_) = small.model, models(text="qwen2").model, prompts
    plans = [{"method": "random", "keep": 0.2}, {"method": "random + fastv(layer=2, keep=0.5)", "keep": 0.6}]
    first, second = (generated(model, prompt, **plan)[0] for plan in plans)
    third = generated(other, prompt, method="random", keep=0.4)[0]
    with ExitStack() as one, ExitStack() as two, ExitStack() as three:
        one.enter_context(herovlm.dropping(model, **plans[0]))
        assert torch.equal(model.generate(**prompt, **GREEDY), first)
        two.enter_context(herovlm.dropping(model, **plans[1]))
        three.enter_context(herovlm.dropping(other, method="random", keep=0.4))
        assert torch.equal(model.generate(**prompt, **GREEDY), second)
        one.close()
        assert torch.equal(model.generate(**prompt, **GREEDY), second)
        two.close()
        assert torch.equal(model.generate(**prompt, **GREEDY), plain(model, prompt)[0])
        assert torch.equal(other.generate(**prompt, **GREEDY), third)


def test_tasks_get_what_they_asked_for(small: tiny.Tiny, prompts: list[Any]) -> None:
    model, (prompt, *_) = small.model, prompts
    wanted = [generated(model, prompt, **plan)[0] for plan in PLANS[:4]]
    whole = plain(model, prompt)[0]

    async def task(plan: dict[str, Any] | None) -> list[Any]:
        with ExitStack() as stack:
            if plan:
                stack.enter_context(herovlm.dropping(model, **plan))
            await asyncio.sleep(0)  # all have opened theirs
            here = model.generate(**prompt, **GREEDY)
            await asyncio.sleep(0)
            away = await asyncio.to_thread(model.generate, **prompt, **GREEDY)
            loop = asyncio.get_running_loop()
            return [here, away, await loop.run_in_executor(None, lambda: model.generate(**prompt, **GREEDY))]

    async def main() -> list[Any]:
        return await asyncio.gather(*map(task, [*PLANS[:4], None]))

    for got, want in zip(asyncio.run(main()), [*wanted, whole], strict=True):
        assert same(got, [want] * 3)


def test_a_prompt_that_is_read_again_and_again_belongs_to_its_context(small: tiny.Tiny, prompts: list[Any]) -> None:
    model, (prompt, *_) = small.model, prompts
    plan: dict[str, Any] = {"method": "random + fastv(layer=2, keep=0.5)", "keep": 0.6}
    with api.shortened(model, prompt, **plan) as (short, _):
        want = model.generate(**short, **GREEDY)
    whole = model.generate(**short, **GREEDY)  # what nobody cuts between the layers
    assert not torch.equal(want, whole)
    outside, done = threading.Barrier(2), threading.Barrier(2)

    def inside() -> torch.Tensor:
        with api.shortened(model, prompt, **plan):
            outside.wait()
            found: torch.Tensor = together(lambda: model.generate(**short, **GREEDY))[0]
            done.wait()
        return found

    def other() -> torch.Tensor:
        outside.wait()
        found: torch.Tensor = model.generate(**short, **GREEDY)
        done.wait()
        return found

    assert same(together(inside, other), [want, whole])


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("method", ["random", "random + fastv(layer=2, keep=0.5)"])
def test_no_trace_after_an_error(small: tiny.Tiny, prompts: list[Any], method: str, error: type[BaseException]) -> None:
    model, (prompt, *_) = small.model, prompts
    whole = plain(model, prompt)

    def boom(*_given: Any) -> None:
        raise error("between the layers")

    hook = model.model.language_model.layers[3].register_forward_pre_hook(boom)
    try:
        with pytest.raises(error, match="between"), herovlm.dropping(model, method=method, keep=0.5):
            model.generate(**prompt, **GREEDY)
        with pytest.raises(error, match="between"), herovlm.dropping(model, method=method, keep=0.5):
            model(**prompt)
    finally:
        hook.remove()
    assert same(plain(model, prompt), whole)


def test_a_generator_may_be_ended_by_another_thread(small: tiny.Tiny, prompts: list[Any]) -> None:
    model, (prompt, *_) = small.model, prompts

    def answers() -> Iterator[torch.Tensor]:
        with herovlm.dropping(model, method="random", keep=0.3):
            while True:
                yield model.generate(**prompt, **GREEDY)

    first, second = answers(), answers()
    next(first)
    together(lambda: next(second), first.close)
    together(second.close)
    assert same(plain(model, prompt), plain(model, prompt))


def test_copies_are_plain_models(prompts: list[Any]) -> None:
    model, (prompt, *_) = tiny.make(layers=3).model, prompts  # one that ran cannot be pickled: hooks of transformers
    with herovlm.dropping(model, method="random + fastv(layer=2, keep=0.5)", keep=0.3):
        copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        replica = copy.copy(model)  # as torch.nn.DataParallel makes them
        whole = together(lambda: plain(copies[0], prompt))[0]
        for one in copies:
            assert same(plain(one, prompt), whole)
        with pytest.raises(UnsupportedError, match="copy of the model"):
            replica(**prompt)
    for one in (model, *copies, replica):
        assert same(plain(one, prompt), whole)
    want = generated(model, prompt, method="random", keep=0.3)
    for one in (*copies, replica):
        assert same(generated(one, prompt, method="random", keep=0.3), want)


def test_the_model_is_let_go_of(small: tiny.Tiny, prompts: list[Any]) -> None:
    made = tiny.make(layers=3)
    begun, end = threading.Event(), threading.Event()
    child = threading.Thread(target=lambda: (begun.set(), end.wait()))
    with herovlm.dropping(made.model, method="random + fastv(layer=1)"):
        made.model.generate(**prompts[0], **GREEDY)
        child.start()
        begun.wait()
    gone = weakref.ref(made.model)
    del made
    gc.collect()
    assert gone() is None
    end.set()
    child.join()


def test_somebody_else_may_wrap_threads_too(small: tiny.Tiny, prompts: list[Any]) -> None:
    model, (prompt, *_) = small.model, prompts
    start, calls = threading.Thread.start, []

    def theirs(thread: threading.Thread) -> None:
        calls.append(thread)
        below(thread)

    plan: dict[str, Any] = {"method": "random", "keep": 0.3}
    want, whole = generated(model, prompt, **plan)[0], plain(model, prompt)[0]
    try:
        with herovlm.dropping(model, **plan):
            below = threading.Thread.start
            threading.Thread.start = theirs  # type: ignore[method-assign]
        assert threading.Thread.start is theirs
        assert torch.equal(together(lambda: model.generate(**prompt, **GREEDY))[0], whole)
        with herovlm.dropping(model, **plan):
            assert torch.equal(together(lambda: model.generate(**prompt, **GREEDY))[0], want)
        assert threading.Thread.start is theirs
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]
    assert calls


def test_a_thread_that_cannot_start_is_as_it_was(small: tiny.Tiny) -> None:
    job = threading.Thread(target=int)
    job.start()
    job.join()
    with herovlm.dropping(small.model, method="random"), pytest.raises(RuntimeError, match="once"):
        job.start()
    assert "run" not in vars(job)
