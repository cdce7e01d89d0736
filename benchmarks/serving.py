"""Requests a second with and without dropping: `python benchmarks/serving.py --json FILE|-`, where vLLM is installed.

Two servers stand side by side: vLLM as it is, and the one that `herovlm serve --keep 1.0` starts, which is asked to
keep all, a fifth and a twentieth of a picture.  Rounds go through the ways in turn, with pictures and questions that no
cache has seen; answers have 16 tokens whatever they say.  The model is the demo's tower in front of a random language
model of 12 layers and 768 channels: what is timed is work, not answers.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import record
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoProcessor, LlavaNextForConditionalGeneration

from herovlm import demo
from herovlm.cost.clock import spread
from herovlm.demo import scenes
from herovlm.engines import vllm

WAYS = {"vLLM as it is": None, "keep 1.0": 1.0, "keep 0.2": 0.2, "keep 0.05": 0.05}
BASE = "vLLM as it is"
NEW = 16  # tokens of an answer
START = 600  # seconds that a server may take
FIRST = 5_000_000  # scenes that nobody else has


def weights(folder: Path, layers: int, channels: int) -> Path:
    """Save the demo's tower in front of a random language model, named as published checkpoints are."""
    config = AutoConfig.from_pretrained(demo.WEIGHTS)
    wide = {"hidden_size": channels, "intermediate_size": 3 * channels, "num_hidden_layers": layers, "head_dim": 64}
    for name, value in {**wide, "num_attention_heads": channels // 64, "num_key_value_heads": channels // 64}.items():
        setattr(config.text_config, name, value)
    torch.manual_seed(0)
    model, (trained, processor) = LlavaNextForConditionalGeneration(config), demo.load()
    model.base_model.vision_tower.load_state_dict(trained.base_model.vision_tower.state_dict())
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    file = folder / "model.safetensors"
    old = "vision_tower.vision_model."
    named = {k if old in k else k.replace("vision_tower.", old): v for k, v in load_file(file).items()}
    save_file(named, file, metadata={"format": "pt"})
    os.symlink(demo.WEIGHTS / "clip", folder / "clip")
    AutoProcessor.from_pretrained(folder)
    return folder


@contextmanager
def server(words: Sequence[str], log: Path) -> Iterator[str]:
    """Start a server, and give its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    more = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "model", "--dtype", "float32"]
    more += ["--max-model-len", "1024", "--max-num-seqs", "32", "--enforce-eager"]
    env = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with log.open("w") as told:
        process = subprocess.Popen([*words, *more], stdout=told, stderr=told, env=env)
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + START
    try:
        while True:
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"a server did not start:\n{log.read_text('utf-8')[-2000:]}")
            try:
                httpx.get(f"{url}/health", timeout=2).raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(1)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def bodies(start: int, count: int, keep: float | None) -> list[dict[str, Any]]:
    """Make requests about pictures that nobody has seen."""
    made = []
    for seed in range(start, start + count):
        scene, kept = scenes.make(seed, size=(384, 384)), io.BytesIO()
        scene.image.save(kept, "PNG")
        shown = f"data:image/png;base64,{base64.b64encode(kept.getvalue()).decode()}"
        content = [
            {"type": "image_url", "image_url": {"url": shown}},
            {"type": "text", "text": scene.questions[0].text},
        ]
        how = {"model": "model", "temperature": 0, "max_tokens": NEW, "ignore_eos": True}
        made.append(how | {"messages": [{"role": "user", "content": content}]})
        if keep is not None:
            made[-1]["mm_processor_kwargs"] = {"herovlm_keep": keep}
    return made


def load(url: str, asked: Sequence[dict[str, Any]], at_once: int) -> tuple[float, list[float], int]:
    """Ask all, so many at once: seconds in all, seconds of each, tokens of a prompt."""
    with httpx.Client(timeout=START) as client, ThreadPoolExecutor(at_once) as pool:

        def one(body: dict[str, Any]) -> tuple[float, int]:
            start = time.perf_counter()
            answer = client.post(f"{url}/v1/chat/completions", json=body).raise_for_status().json()
            return time.perf_counter() - start, answer["usage"]["prompt_tokens"]

        start = time.perf_counter()
        found = list(pool.map(one, asked))
        return time.perf_counter() - start, [seconds for seconds, _ in found], found[0][1]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Start both servers, and go through the ways in turn."""
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="serving-") as name, ExitStack() as stack:
        place = Path(name)
        folder = weights(place / "model", args.layers, args.channels)
        ours = [sys.executable, "-m", "herovlm", "serve", str(folder), "--keep", "1.0"]
        theirs = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
        stock = stack.enter_context(server(theirs, place / "stock.log"))
        plugin = stack.enter_context(server(ours, place / "plugin.log"))
        seed = FIRST
        for at_once in args.at_once:
            seconds: dict[str, list[float]] = {way: [] for way in WAYS}
            waits: dict[str, list[float]] = {way: [] for way in WAYS}
            positions: dict[str, int] = {}
            for turn in range(-1, args.rounds):  # the first warms up
                for way, keep in WAYS.items():
                    asked = bodies(seed, max(args.requests, at_once), keep)
                    seed += len(asked)
                    took, each, positions[way] = load(stock if keep is None else plugin, asked, at_once)
                    if turn >= 0:
                        seconds[way].append(len(asked) / took)
                        waits[way] += each
            results[str(at_once)] = {
                way: {
                    "requests_per_second": spread(seconds[way]),
                    "over_stock": statistics.median(
                        own / base for own, base in zip(seconds[way], seconds[BASE], strict=True)
                    ),
                    "latency": {
                        "median": statistics.median(waits[way]),
                        "p95": sorted(waits[way])[int(0.95 * len(waits[way]))],
                    },
                    "prompt_tokens": positions[way],
                }
                for way in WAYS
            }
    about = {
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "device": "cpu",
        "shared": args.shared,
    }
    versions = {"vllm": vllm.tested(), "torch": torch.__version__, "transformers": transformers.__version__}
    what = {"rounds": args.rounds, "requests": args.requests, "new_tokens": NEW, "layers": args.layers}
    return {"benchmark": "serving", **about, **versions, **what, "channels": args.channels, "results": results}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", default="-", help="file to write, or - for standard output")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count")
    parser.add_argument("--requests", type=int, default=16, help="of a round, or as many as are sent at once")
    parser.add_argument("--at-once", type=lambda text: [int(one) for one in text.split(",")], default=[1, 8, 32])
    parser.add_argument("--layers", type=int, default=12, help="of the language model")
    parser.add_argument("--channels", type=int, default=768, help="of the language model; a multiple of 64")
    parser.add_argument(
        "--shared", action="store_true", help="say in the record that others used the machine meanwhile"
    )
    options = parser.parse_args()
    record.put(options.json, measure(options))
