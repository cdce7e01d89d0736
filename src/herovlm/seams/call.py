"""The arguments of a call by name, however they were given, and the way back to a call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from herovlm.errors import HeroError, InputsError, UnsupportedError

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def by_name(
    signature: inspect.Signature, what: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Bind a call to the names of parameters, whatever the last one is called that takes all others.

    Raises:
        InputsError: the arguments do not fit, or some have no name.
    """
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InputsError(f"{error}; under herovlm.dropping() arguments are as for {what}()") from error
    given: dict[str, Any] = dict(bound.arguments)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL and given.pop(parameter.name, ()):
            raise InputsError(f"{what}() was given *{parameter.name}; under herovlm.dropping() give them by name")
        if parameter.kind is parameter.VAR_KEYWORD:
            given.update(given.pop(parameter.name, {}))
    return given


class Call:
    """A call of some `generate`, the model's own or one that somebody put in its place."""

    def __init__(self, function: Callable[..., Any], like: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self.function = function
        self.what = getattr(function, "__name__", type(function).__name__)
        parameters = inspect.signature(function, follow_wrapped=False).parameters
        if parameters and next(iter(parameters.values())).kind is inspect.Parameter.VAR_POSITIONAL:
            parameters = inspect.signature(like).parameters  # (*args, **kwargs) passes on to this
        self.parameters = parameters
        self.given = by_name(inspect.Signature(list(parameters.values())), self.what, args, kwargs)
        self.prompt = self._prompt()
        if self.prompt is not None:
            self.given["input_ids"] = self.given.pop(self.prompt)

    def _prompt(self) -> str | None:
        """Find the name under which the token ids came, if any did: who names them otherwise has them first."""
        first = [name for name, one in self.parameters.items() if one.kind in POSITIONAL][:1]
        names = [name for name in ("input_ids", "inputs", *first) if self.given.get(name) is not None]
        return names[0] if names and isinstance(self.given[names[0]], Tensor) else None

    def again(self, arguments: Mapping[str, Any]) -> Any:
        """Call with other arguments, each where the function wants it.

        Raises:
            UnsupportedError: it does not take them.
        """
        new = dict(arguments)
        if self.prompt is not None and "input_ids" in new:
            new[self.prompt] = new.pop("input_ids")
        known = self.parameters.values()
        gone = [
            one.name for one in known if one.name in self.given and one.name not in new and one.default is one.empty
        ]
        odd = [] if any(one.kind is one.VAR_KEYWORD for one in known) else sorted({*new} - {*self.parameters})
        if gone or odd:
            why = f"insists on {', '.join(gone)}" if gone else f"does not take {', '.join(odd)}"
            raise UnsupportedError(
                f"the generate() of this instance, {self.what}(), {why}, but a shortened prompt comes with "
                "mm_encoder_outputs instead of pictures; let it pass on all that it is given (**kwargs)"
            )
        args = [new.pop(one.name) for one in known if one.kind is one.POSITIONAL_ONLY and one.name in new]
        named = [one.name for one in known if one.name in self.given and one.name not in arguments]
        named = [name for name in named if name != self.prompt]
        try:
            return self.function(*args, **new)
        except ValueError as error:
            if not named or isinstance(error, HeroError):
                raise
            raise UnsupportedError(
                f"the generate() of this instance, {self.what}(), has parameters {', '.join(named)}, which a shortened "
                f"prompt comes without; let it pass on only what it is given (**kwargs); it ended in: {error}"
            ) from error
