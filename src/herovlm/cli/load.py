"""Finding a model and its processor by name: the demo model, a folder, or a name in the local cache of the hub."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from herovlm import modules, registry
from herovlm.errors import ModelError, SetupError

DEMO = "demo"


def load(name: str, *, clip: str | None = None, download: bool = False, module: str | None = None) -> tuple[Any, Any]:
    """Load a model, ready to answer on the best device here, and its processor.

    Args:
        name: "demo", a folder, or a name on the hub.
        clip: the CLIP that scores the question, where the model does not say.
        download: fetch from the hub what is not on this machine.
        module: a trained part to put on it, as for `herovlm.modules.attach`.

    Raises:
        ModelError: there is no such model or CLIP, or its family is not supported; the module does not fit.
        UsageError: there is no such module.
        SetupError: it cannot be downloaded, or its files are broken or not complete.
    """
    if not name.strip():
        raise ModelError(f"--model is empty; give {DEMO!r}, the folder of a model, or its name on the hub")
    clip = clip_of(clip)
    if name == DEMO:
        from herovlm import demo

        model, processor = demo.load()
    else:
        model, processor = _from_pretrained(name, download)
    if clip is not None:
        model.config.herovlm_clip = clip
    model = _placed(model.eval())
    if module is not None:
        modules.attach(model, module)
    return model, processor


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the log lines and bars of other libraries off the terminal."""
    from transformers.utils import logging as theirs

    loggers = [logging.getLogger(name) for name in ("PIL", "huggingface_hub")]
    before = theirs.get_verbosity(), theirs.is_progress_bar_enabled(), [logger.level for logger in loggers]
    theirs.set_verbosity(logging.CRITICAL)
    theirs.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        theirs.set_verbosity(before[0])
        if before[1]:
            theirs.enable_progress_bar()
        for logger, level in zip(loggers, before[2], strict=True):
            logger.setLevel(level)


def _from_pretrained(name: str, download: bool) -> tuple[Any, Any]:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    where, config = config_of(name, download)
    how: dict[str, Any] = {"local_files_only": not download, "trust_remote_code": False}
    try:
        processor = AutoProcessor.from_pretrained(where, **how)
        model, report = AutoModelForImageTextToText.from_pretrained(
            where, config=config, dtype="auto", output_loading_info=True, **how
        )
    except Exception as error:
        raise SetupError(
            f"{name} cannot be loaded ({_cause(error)}); it needs config, weights, tokenizer and image processor"
        ) from error
    lost = [key for key in {*report["missing_keys"], *report["mismatched_keys"]} if "post_layernorm" not in str(key)]
    if lost:
        raise SetupError(f"{name} lacks {len(lost)} weights, such as {sorted(map(str, lost))[0]}; get its files again")
    return model, processor


def folder_of(name: str) -> Path | None:
    """Find the folder of a model, if it is one."""
    from herovlm import demo

    folder = demo.WEIGHTS if name == DEMO else Path(name).expanduser()
    return folder if folder.is_dir() else None


def config_of(name: str, download: bool, revision: str | None = None) -> tuple[str, Any]:
    """Find a model without loading it: what transformers and vLLM call it, and its config.

    Raises:
        ModelError: there is no such model, or its family is not supported.
        SetupError: it cannot be downloaded, or its files are broken.
    """
    from transformers import AutoConfig

    where = str(folder_of(name) or name)
    try:
        config = AutoConfig.from_pretrained(
            where, local_files_only=not download, trust_remote_code=False, revision=revision
        )
    except Exception as error:  # transformers raises nearly anything on what is no model
        raise _not_found(name, download, error) from error
    if config.model_type not in registry.families():
        raise ModelError(
            f"{name} is of the family {config.model_type!r}, which is not supported; "
            f"supported families: {', '.join(registry.families())} (herovlm models)"
        )
    return where, config


def _not_found(name: str, download: bool, error: Exception) -> ModelError | SetupError:
    if Path(name).expanduser().is_dir():
        return SetupError(f"the folder {name} holds no model ({_cause(error)}); it needs a config.json of transformers")
    if Path(name).exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        return ModelError(f"{name} is not the folder of a model; give a folder, a name on the hub, or {DEMO!r}")
    if download:
        return SetupError(f"{name} cannot be fetched from the hub ({_cause(error)})")
    guess = registry.did_you_mean(name, [DEMO]) if "/" not in name else ""
    return ModelError(
        f"the model {name!r} is not on this machine{guess.split('There')[0].rstrip('. ')}; "
        f"give the folder of a model, {DEMO!r}, or --download to fetch it from the hub"
    )


def clip_of(name: str | None) -> str | None:
    """Check what was typed behind `--clip`; a folder becomes absolute.

    Raises:
        ModelError: it is neither a folder nor a name on the hub.
    """
    if name is None:
        return None
    if not name.strip():
        raise ModelError("--clip is empty; give the folder of a CLIP, or its name on the hub")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder.absolute())
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(f"there is no folder {name} for --clip; give the folder of a CLIP, or its name on the hub")
    return name


def _placed(model: Any) -> Any:
    """Move a model to the GPU when there is one; half precision is slow on a CPU, so it becomes bfloat16 there."""
    import torch

    if torch.cuda.is_available():
        return model.to("cuda")
    return model.to(torch.bfloat16) if model.dtype == torch.float16 else model


def _cause(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
