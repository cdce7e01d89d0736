"""The server under load: right answers or clear refusals, and it lives on."""

from __future__ import annotations

import base64
import io
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM has an environment of its own; CI makes one")

import httpx
import psutil
from answers import NEW, Case, here, shipped

from herovlm.demo import scenes

pytestmark = pytest.mark.filterwarnings("default")
WAIT = 300  # seconds
MORE = 300 * 2**20  # bytes that the server may grow by once it is warm


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, psutil.Process]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    more = ["--dtype", "float32", "--max-model-len", "1024", "--max-num-seqs", "8", "--enforce-eager"]
    where = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "demo"]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as told:
        words = [sys.executable, "-m", "herovlm", "serve", "demo", "--keep", "0.4", *where, *more]
        process = subprocess.Popen(words, stdout=told, stderr=told, env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"})
    try:
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + WAIT
        while not alive(url):
            assert process.poll() is None, log.read_text("utf-8")[-3000:]
            assert time.monotonic() < end, log.read_text("utf-8")[-3000:]
            time.sleep(0.5)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def body(picture: bytes, question: str, **asked: Any) -> dict[str, Any]:
    """A request as people send it; this model's template writes no start of a sequence, so that is asked for."""
    shown = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(picture).decode()}"}}
    content = [shown, {"type": "text", "text": question}]
    how = {"model": "demo", "temperature": 0, "max_tokens": NEW, "add_special_tokens": True}
    return how | {"messages": [{"role": "user", "content": content}], "mm_processor_kwargs": asked}


def png(image: Any) -> bytes:
    kept = io.BytesIO()
    image.save(kept, "PNG")
    return kept.getvalue()


def sent(url: str, given: dict[str, Any], timeout: float = WAIT) -> httpx.Response | None:
    try:
        return httpx.post(f"{url}/v1/chat/completions", json=given, timeout=timeout)
    except httpx.TimeoutException:
        return None


def held(process: psutil.Process) -> int:
    """Bytes that the server and its children hold."""
    return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)])


def test_two_hundred_requests_eight_at_a_time(server: tuple[str, psutil.Process]) -> None:
    """Six of ten are good and differ in size, question and budget; the others are broken, too much, or hang up."""
    url, process = server
    rng, served = random.Random(0), shipped()
    cases = []
    for seed in range(12):
        made = scenes.make(seed)
        cases += [Case(made.image, ask.text, rng.choice([0.4, 0.2, 0.1])) for ask in made.questions[:2]]
    expected = [here(served, case, "hero") for case in cases]
    spoken = [served.processor.decode(own.ids, skip_special_tokens=True) for own in expected]
    right, refused, left = 0, 0, 0

    def one(number: int) -> tuple[str, int]:
        case = cases[number % len(cases)]
        kind, told = number % 10, png(case.image)
        if kind == 6:
            answer = sent(url, body(told[: len(told) // 3], case.question, herovlm_keep=0.2))
            return "refused", 0 if answer is None else answer.status_code
        if kind == 7:
            bad = rng.choice([{"herovlm_keep": 0.9}, {"herovlm_keep": -1}, {"herovlm_tokens": "x"}, {"sharp": True}])
            answer = sent(url, body(told, case.question, **bad))
            return "refused", 0 if answer is None else answer.status_code
        if kind == 8:
            answer = sent(url, body(told, ""))
            return "refused", 0 if answer is None else answer.status_code
        if kind == 9:
            sent(url, body(told, case.question + "?", herovlm_keep=0.3), timeout=0.02)
            return "left", 0
        answer = sent(url, body(told, case.question, herovlm_keep=case.keep))
        assert answer is not None
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert found["usage"]["prompt_tokens"] == expected[number % len(cases)].prompt
        assert found["choices"][0]["message"]["content"] == spoken[number % len(cases)]
        return "right", 200

    before = 0
    with ThreadPoolExecutor(8) as pool:
        for start in range(0, 200, 50):
            for kind, status in pool.map(one, range(start, start + 50)):
                right, left = right + (kind == "right"), left + (kind == "left")
                refused += kind == "refused" and 400 <= status < 500
            before = before or held(process)
    assert (right, refused, left) == (120, 60, 20)
    assert alive(url)
    assert held(process) - before < MORE
