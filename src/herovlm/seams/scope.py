"""Who belongs to an open context: who opened it, the tasks it makes, the threads it starts, the work it hands over.

Python carries what a context variable holds into tasks and `asyncio.to_thread`, not into threads (3.14 can be told to).
So while a context is open, and only then, threads and thread pools are made to carry it: who starts a thread or submits
work from inside belongs there, with all that comes of it; everybody else is outside, in whatever thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import wraps
from threading import RLock, Thread
from typing import Any


class Scope:
    """A context that was opened around `key`; `holds` is what there is to find while it is open."""

    def __init__(self, key: Any, holds: Any) -> None:
        self.key, self.holds, self.open = key, holds, True

    @property
    def here(self) -> bool:
        """Whether the context is open and the code that asks belongs to it."""
        return any(one is self for one in _alive())

    def close(self) -> None:
        """End it, for all that belong to it, and let go of what it holds."""
        self.open, self.key, self.holds = False, None, None

    def __deepcopy__(self, memo: Any) -> Scope:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _ended, ()  # in another process nobody belongs to it


_entered: ContextVar[tuple[Scope, ...]] = ContextVar("herovlm_entered", default=())  # innermost last


def innermost(key: Any) -> Scope | None:
    """Find the innermost open context around `key` that the code that asks belongs to."""
    return next((scope for scope in reversed(_alive()) if scope.key is key), None)


@contextmanager
def opened(key: Any, holds: Any = None) -> Iterator[Scope]:
    """Open a context while the body runs; contexts may end in any order, and by any thread."""
    scope = Scope(key, holds)
    with _carried():
        try:
            _entered.set((*_alive(), scope))
            yield scope
        finally:
            scope.close()
            _entered.set(_alive())  # no reset: a generator may be ended by another thread than began it


def _alive() -> tuple[Scope, ...]:
    return tuple(scope for scope in _entered.get() if scope.open)


def _ended() -> Scope:
    scope = Scope(None, None)
    scope.close()
    return scope


def _enter(scopes: tuple[Scope, ...], work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Work as one who belongs to these contexts, and no others."""
    before = _entered.get()
    _entered.set(scopes)
    try:
        return work(*args, **kwargs)
    finally:
        _entered.set(before)


def _starting(inner: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `Thread.start`: what the thread runs belongs to the contexts of who starts it."""

    @wraps(inner)
    def start(thread: Any, *args: Any, **kwargs: Any) -> Any:
        scopes = _alive()
        if not scopes:
            return inner(thread, *args, **kwargs)
        own, run = vars(thread).get("run"), thread.run

        def back() -> None:
            vars(thread).pop("run", None)
            if own is not None:
                vars(thread)["run"] = own

        def body() -> None:
            back()
            _enter(scopes, run)

        vars(thread)["run"] = body
        try:
            return inner(thread, *args, **kwargs)
        except BaseException:
            back()
            raise

    return start


def _submitting(inner: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `ThreadPoolExecutor.submit`: work belongs to the contexts of who submits it, whichever worker does it."""

    @wraps(inner)
    def submit(pool: Any, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        scopes = _alive()
        if not scopes:
            return inner(pool, work, *args, **kwargs)
        # A worker that is started for this serves others later: it is started as if from outside.
        return copy_context().run(_enter, (), inner, pool, _enter, scopes, work, *args, **kwargs)

    return submit


class _Wrap:
    """A method of the standard library, wrapped for a while."""

    def __init__(self, owner: type, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        self.owner, self.name, self.inner = owner, name, vars(owner)[name]
        self.outer = wrap(self.inner)
        setattr(owner, name, self.outer)

    def undo(self) -> None:
        """Put the method back; where somebody has wrapped ours since, it stays below theirs and passes on."""
        if vars(self.owner)[self.name] is self.outer:
            setattr(self.owner, self.name, self.inner)


_lock = RLock()  # a context that is collected as garbage may end while this thread is in here
_count = 0
_wraps: list[_Wrap] = []


@contextmanager
def _carried() -> Iterator[None]:
    """Let threads and pools carry contexts while the body runs: the first one wraps, the last one undoes."""
    global _count
    with _lock:
        _count += 1
        if _count == 1:
            _wraps[:] = [_Wrap(Thread, "start", _starting), _Wrap(ThreadPoolExecutor, "submit", _submitting)]
    try:
        yield
    finally:
        with _lock:
            _count -= 1
            if not _count:
                for wrap in _wraps:
                    wrap.undo()
                _wraps.clear()
