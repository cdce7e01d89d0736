"""The parts of a module: the same as torch lists them, and looked for once a call."""

from __future__ import annotations

from torch import nn

from herovlm.seams import parts


def nested() -> nn.Module:
    """A module that stands in two places, an empty place, and parts of parts."""
    shared = nn.Linear(2, 2)
    root = nn.Sequential(nn.Sequential(nn.ReLU(), shared), shared, nn.ModuleList([nn.Linear(2, 3), nn.GELU()]))
    root.nothing = None
    root.register_module("empty", None)
    return root


def is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


def test_modules_are_those_of_torch_in_its_order() -> None:
    root = nested()
    assert parts.modules(root) == list(root.modules())


def test_weights_are_all_parameters() -> None:
    root = nested()
    assert {id(one) for one in parts.weights(root)} == {id(one) for one in root.parameters()}


def test_a_module_is_looked_through_once_while_the_body_runs() -> None:
    root = nested()
    with parts.once():
        before = parts.those(root, is_linear)
        root.append(nn.Linear(2, 2))
        with parts.once():
            assert parts.those(root, is_linear) == before
        assert parts.those(root, is_linear) == before
    assert len(parts.those(root, is_linear)) == len(before) + 1


def test_what_was_listed_is_the_callers_own() -> None:
    root = nested()
    with parts.once():
        parts.those(root, is_linear).clear()
        assert len(parts.those(root, is_linear)) == 2
