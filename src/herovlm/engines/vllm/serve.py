"""The command that starts vLLM's OpenAI-compatible server with the plugin."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from herovlm.engines.vllm import architecture
from herovlm.engines.vllm.asked import Asked, Settings
from herovlm.errors import UsageError

OURS = ("--model", "--hf-overrides", "--trust-request-mm-kwargs")  # options of vLLM that we write
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
    settings.request([Asked("?")])
    settings.count(config, PICTURE, Asked())
    return {"architectures": [named], "herovlm": told}


def command(model: str, config: Any, settings: Settings, rest: Sequence[str] = ()) -> list[str]:
    """Write the command of the server, as a list of words.

    Args:
        model: folder or name.
        config: its config.
        settings: what is kept.
        rest: further options of vLLM, handed on as they are.

    Raises:
        HeroError: as `overrides`.
        UsageError: an option that is ours to write is among them.
    """
    twice = [word for word in rest if word.split("=")[0] in OURS]
    if twice:
        raise UsageError(f"{', '.join(twice)}: herovlm serve writes this option of vLLM itself; leave it out")
    found = ["--hf-overrides", json.dumps(overrides(config, settings)), "--trust-request-mm-kwargs"]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *found, *rest]
