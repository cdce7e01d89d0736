from __future__ import annotations

import subprocess
import sys

import pytest

import herovlm
from herovlm import errors


def test_importing_is_light() -> None:
    code = "import herovlm, sys; print([m for m in ('torch', 'transformers', 'numpy', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_listed() -> None:
    for name in herovlm.__all__:
        assert getattr(herovlm, name) is not None
    assert set(herovlm.__all__) <= set(dir(herovlm))


def test_every_error_is_public_and_of_one_tree() -> None:
    kinds = [e for e in vars(errors).values() if isinstance(e, type)]
    assert {e.__name__ for e in kinds} <= set(herovlm.__all__)
    assert all(issubclass(e, herovlm.HeroError) for e in kinds)
    assert all(issubclass(e, ValueError) or issubclass(e, RuntimeError) or e is herovlm.HeroError for e in kinds)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'prune'"):
        herovlm.prune  # noqa: B018
