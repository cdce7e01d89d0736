"""Run a loop of many small kernels as one CUDA graph, from its second time on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor

MOST = 4  # loops of one shape that are remembered; each holds a copy of what it is given

Loop = Callable[..., Tensor]


class Recorded(NamedTuple):
    """A loop as a graph, what it reads and what it writes."""

    graph: torch.cuda.CUDAGraph
    given: list[Any]  # tensors of its own in the places of those that are given
    out: Tensor


class Place(NamedTuple):
    """What the graphs of one device share: they run one after the other, on whichever streams."""

    pool: Any
    done: torch.cuda.Event  # the last of them is


def replayed(loop: Loop, given: Sequence[Any]) -> Tensor:
    """Return `loop(*given)`, where the operations follow from the shapes and from what is no tensor.

    On a CUDA device the second call with the same shapes records a graph, and each call after that launches it: a pick
    then costs what the device needs for it, not what the host needs to ask.  Anywhere else, and inside a graph that
    somebody else records, the loop just runs.
    """
    first = next(one for one in given if isinstance(one, Tensor))
    if first.device.type != "cuda" or torch.cuda.is_current_stream_capturing():
        return loop(*given)
    key = (loop, first.device, *map(_shape, given))
    with _lock:
        if key not in _known:
            _known[key] = None
            if len(_known) > MOST:
                _known.popitem(last=False)
            return loop(*given)
        _known.move_to_end(key)
        with torch.cuda.device(first.device):
            found = _known[key] = _known[key] or _record(loop, given, _place(first.device))
            return _replay(found, given, _place(first.device))


def _record(loop: Loop, given: Sequence[Any], place: Place) -> Recorded:
    """Record a graph; nothing runs."""
    place.done.synchronize()
    own = [one.clone() if isinstance(one, Tensor) else one for one in given]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=place.pool, capture_error_mode="thread_local"):
        out = loop(*own)
    return Recorded(graph, own, out)


def _replay(found: Recorded, given: Sequence[Any], place: Place) -> Tensor:
    """Launch a graph behind the last one of its device."""
    stream = torch.cuda.current_stream()
    stream.wait_event(place.done)
    for own, one in zip(found.given, given, strict=True):
        if isinstance(own, Tensor):
            own.copy_(one)
    found.graph.replay()
    out = found.out.clone()
    place.done.record(stream)
    return out


def _place(device: torch.device) -> Place:
    if device not in _places:
        _places[device] = Place(torch.cuda.graph_pool_handle(), torch.cuda.Event())  # type: ignore[no-untyped-call]
    return _places[device]


def _shape(one: Any) -> Any:
    if isinstance(one, Tensor):
        return one.shape, one.dtype
    return tuple(one) if isinstance(one, list) else one


_known: OrderedDict[Any, Recorded | None] = OrderedDict()
_places: dict[torch.device, Place] = {}
_lock = Lock()
