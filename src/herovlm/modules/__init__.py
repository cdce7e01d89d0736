"""Trained parts that change a model: `with herovlm.modules.attach(model, "igva"): ...`; none of its classes is touched.

Weights lie in `weights/<name>/` of this package or in a folder of yours: safetensors, and a module.json that says what
they are, which model they were made for, and how they were trained.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary, ref

from herovlm import registry
from herovlm.errors import SetupError, UnsupportedError, UsageError, reason, shortened

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from herovlm.budget import Budget
    from herovlm.types import Needs, Seen

WEIGHTS = Path(__file__).parent / "weights"
CARD = "module.json"
KINDS = {  # kind in a card -> what puts such a part on a model
    "fusion": "herovlm.modules.igva:join",
    "lora": "herovlm.modules.lora:join",
}

Join = Callable[..., tuple[Callable[[], None], "Part | None"]]  # (model, folder, card, **how) -> how to undo it, a part


class Part(Protocol):
    """What makes the features of a picture anew once the question is known."""

    @property
    def needs(self) -> Needs:
        """What it wants of the vision tower, whatever the method."""

    def check(self, budget: Budget, narrow: tuple[float | int, float] | None) -> None:
        """Check that it goes with what is asked, as `Request` has it.

        Raises:
            UnsupportedError: it does not, and why.
        """

    def looking(self) -> Any:
        """Return a context in which the tower may run before the question is known."""

    def asked(self, seen: Sequence[Seen], questions: Sequence[str]) -> list[Seen]:
        """Return what is seen of pictures, each under its question: other features, and other hidden states."""

    def project(self, hidden: Tensor) -> Tensor:
        """Project hidden states (n, C), as wide as those in `Seen.hidden` that it returns."""


@dataclass(frozen=True)
class Card:
    """What a module.json says."""

    kind: str
    name: str
    fields: Mapping[str, Any]  # all of it


class Attached:
    """A part on a model: a context manager, or a handle with `remove()`."""

    def __init__(self, card: Card, undo: Callable[[], None], part: Part | None, model: PreTrainedModel) -> None:
        self.card, self.part, self._undo = card, part, undo
        self._model = ref(model)  # what is attached keeps no model alive
        self.on = True

    @property
    def told(self) -> str:
        """Name it for a record: with what reads the question, where the card says."""
        sentence = self.card.fields.get("sentence")
        return self.card.name if sentence is None else f"{self.card.name} (question read by {sentence})"

    def remove(self) -> None:
        """Leave the model as it was; once is enough."""
        with _lock:
            if not self.on:
                return
            self.on = False
            model = self._model()
            if model is None:
                return
            left = [one for one in _attached.pop(model, ()) if one is not self]
            if left:
                _attached[model] = left
        self._undo()

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.remove()


_lock = RLock()
_attached: WeakKeyDictionary[PreTrainedModel, list[Attached]] = WeakKeyDictionary()


def attach(model: PreTrainedModel, name: str | Path, **how: Any) -> Attached:
    """Put a trained part on a model, for everybody who uses this instance, until it is removed.

    Args:
        model: of a supported family.
        name: of weights that come with the package (`names()`), or a folder with a module.json.
        how: what this kind of part can be told besides.

    Raises:
        UsageError: there is no such part.
        SetupError: its files are broken or not complete.
        ModelError: it was made for a model of another shape.
        UnsupportedError: it cannot be put on this kind of model, or not beside what is on it.
        MissingExtraError: it needs what is not installed.
    """
    registry.family(model)
    folder = _folder(name)
    card = read(folder)
    with _lock:
        others = _attached.get(model, [])
        if any(one.card.kind == card.kind for one in others):
            raise UnsupportedError(f"this model has a module of the kind {card.kind!r} already; remove() that first")
        path, _, function = KINDS[card.kind].partition(":")
        join: Join = getattr(import_module(path), function)
        undo, part = join(model, folder, card.fields, **how)
        made = Attached(card, undo, part, model)
        _attached[model] = [*others, made]
    return made


def on(model: PreTrainedModel) -> tuple[Attached, ...]:
    """List what is attached to a model, in order."""
    return tuple(_attached.get(model, ()))


def part_of(model: PreTrainedModel) -> Part | None:
    """Return the part of a model that makes features anew by the question, if there is one."""
    return next((one.part for one in on(model) if one.part is not None), None)


def names() -> list[str]:
    """List the weights that come with the package."""
    return sorted(file.parent.name for file in WEIGHTS.glob(f"*/{CARD}"))


def read(folder: Path) -> Card:
    """Read the card of a folder.

    Raises:
        SetupError: there is none, or it is broken.
    """
    try:
        fields = json.loads((folder / CARD).read_text("utf-8"))
        card = Card(str(fields["kind"]), str(fields["name"]), fields)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(f"{folder} holds no module of herovlm: its {CARD} cannot be read ({reason(error)})") from error
    if card.kind not in KINDS:
        raise SetupError(f"{folder / CARD} is of the kind {card.kind!r}; this herovlm knows {', '.join(KINDS)}")
    return card


def weights(folder: Path, file: str = "model.safetensors") -> dict[str, Tensor]:
    """Read the weights of a folder.

    Raises:
        SetupError: there are none, or they are broken.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: dict[str, Tensor] = load_file(folder / file)
    except (OSError, SafetensorError) as error:
        raise SetupError(f"{folder / file} cannot be read ({reason(error)}); get its files again") from error
    return found


def _folder(name: str | Path) -> Path:
    """Find the folder of a module."""
    text = str(name) if isinstance(name, str | Path) else ""
    if text in names():
        return WEIGHTS / text
    folder = Path(text).expanduser()
    if not text.strip() or not folder.is_dir():
        raise UsageError(
            f"there is no module {shortened(name)}; give a folder with a {CARD}, or the name of one that comes along: "
            f"{', '.join(names()) or 'there is none'}"
        )
    return folder
