"""The command that starts vLLM's OpenAI-compatible server with the plugin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from herovlm.engines.vllm import architecture
from herovlm.engines.vllm.asked import Asked, Settings
from herovlm.errors import UnsupportedError, UsageError

OURS = ("--model", "--hf-overrides", "--trust-request-mm-kwargs")  # options of vLLM that we write
NOBODYS = ("--mm-processor-kwargs",)  # that say otherwise how a picture is cut
PICTURES = 16  # a request, unless the server's owner says otherwise: each is looked at, however few positions it keeps
PICTURE = (1000, 1000)  # whether there is a number beforehand does not depend on the size


def overrides(config: Any, settings: Settings) -> dict[str, Any]:
    """Make what stands behind vLLM's `--hf-overrides`.

    Args:
        config: the model's.
        settings: what is kept.

    Raises:
        HeroError: this model is not served, or the method has no number of positions beforehand.
    """
    told = {name: value for name, value in asdict(settings).items() if value is not None}
    named = architecture(config.model_type)
    asked = settings.request([Asked("?")])
    if asked.inside is not None:
        raise UnsupportedError(f"{asked.inside} works inside the language model, which is vLLM's here; serve another")
    settings.reads_question(config)
    settings.count(config, PICTURE, Asked())
    return {"architectures": [named], "herovlm": told}


def command(model: str, config: Any, settings: Settings, rest: Sequence[str] = ()) -> list[str]:
    """Write what stands behind `vllm serve`, as a list of words.

    Args:
        model: folder or name.
        config: its config.
        settings: what is kept.
        rest: further options of vLLM, handed on as they are.

    Raises:
        HeroError: as `overrides`.
        UsageError: an option that is ours to write, or that cannot be, is among them.
    """
    for word in rest:
        if _means(word, OURS):
            raise UsageError(f"{word}: herovlm serve writes this option of vLLM itself; leave it out")
        if _means(word, NOBODYS):
            raise UsageError(f"{word}: how a picture is cut is read from the model's folder; leave it out")
    found = ["--hf-overrides", json.dumps(overrides(config, settings)), "--trust-request-mm-kwargs"]
    if not any(_means(word, ("--limit-mm-per-prompt",)) for word in rest):
        found += ["--limit-mm-per-prompt", json.dumps({"image": PICTURES})]
    return [model, *found, *rest]


def _means(word: str, options: Sequence[str]) -> bool:
    """Find whether a word is one of some options as vLLM reads them: shortened, with underscores, keys, a value."""
    name = word.split("=")[0].split(".")[0].replace("_", "-")
    return len(name) > 2 and name.startswith("--") and any(option.startswith(name) for option in options)
