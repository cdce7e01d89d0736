"""`herovlm bench`: theory beside truth for a model or a shape, as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from saved import Cli

QUICK = ("--rounds", 1, "--new-tokens", "1,3")


def test_a_model_is_measured_at_every_keep_and_batch(cli: Cli, folder: Path) -> None:
    words = (
        "bench",
        "--model",
        folder,
        *QUICK,
        "--methods",
        "hero,random",
        "--keep",
        "1,0.5",
        "--tokens",
        "20",
        "--batch",
        "1,2",
    )
    found = json.loads(cli(*words, "--json").stdout)
    assert (found["model"], found["rounds"], found["attention"]) == (str(folder), 1, "sdpa")
    assert {"dtype", "device", "threads", "torch", "memory", "llm_layers"} < {*found}
    assert [one["batch"] for one in found["batches"]] == [1, 2]
    for one in found["batches"]:
        pairs = [(row["method"], row["keep"]) for row in one["rows"]]
        assert pairs == [("full", 1.0), ("hero", 0.5), ("hero", "20t"), ("random", 0.5), ("random", "20t")]
        for row in one["rows"]:
            assert row["theory"]["cache"] == row["theory"]["cache_held"]
            assert row["seconds"]["answer 3"]["median"] >= row["seconds"]["answer 1"]["median"] > 0
            assert row["less"] >= 1


def test_the_table_has_a_line_for_each_and_says_what_it_is(cli: Cli, folder: Path) -> None:
    result = cli("bench", "--model", folder, *QUICK, "--methods", "hero,fastv", "--keep", "1,0.1", "--threads", 1)
    assert result.exit_code == 0, result.stderr
    assert "batch 1: 5 tiles" in result.stdout
    assert "1 thread, 1 round; " in result.stdout
    assert "fastv at 0.1 cannot:" in result.stdout
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[:2] for line in lines if line[:1] in (["full"], ["hero"])] == [["full", "1.0"], ["hero", "0.1"]]
    assert "of 3" in " ".join(result.stdout.split())
    assert "less, faster:" in result.stdout


def test_a_shape_needs_no_files(cli: Cli) -> None:
    words = ("bench", "--shape", "small", "--llm-layers", 1, "--rounds", 1, "--new-tokens", 1, "--keep", "0.05")
    methods = ("--methods", "hero(variant='official'),hero", "--attention", "eager", "--dtype", "float32")
    found = json.loads(cli(*words, *methods, "--json").stdout)
    assert (found["llm_layers"], found["dtype"], found["attention"]) == (1, "float32", "eager")
    official, ours = found["batches"][0]["rows"]
    assert official["theory"]["of"] == 2928
    assert ours["theory"]["positions"] == round(0.05 * 2928)
    assert official["theory"]["selection"] > ours["theory"]["selection"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--shape", "llava-next-8b"), 2, "did you mean"),
        (("--llm-layers", 2), 2, "--shape"),
        (("--batch", "1,x"), 2, "--batch"),
        (("--new-tokens", "0"), 2, "--new-tokens"),
        (("--dtype", "int8"), 2, "bfloat16"),
        (("--attention", "fast"), 2, "sdpa"),
        (("--keep", "0"), 2, "keep"),
        (("--methods", "herro"), 2, "hero"),
        (("--model", "nowhere/at/all"), 2, "nowhere"),
    ],
)
def test_wrong_use_is_told(cli: Cli, words: tuple[object, ...], code: int, says: str) -> None:
    result = cli("bench", *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_a_batch_that_does_not_fit_and_a_method_that_breaks_end_nothing(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from herovlm.cost import shapes

    prompt = shapes.prompt

    def small(model: object, batch: int) -> object:
        if batch > 1:
            raise MemoryError("too many")
        return prompt(model, batch)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("sizes should be greater than 0")

    monkeypatch.setattr(shapes, "prompt", small)
    monkeypatch.setattr("herovlm.methods.random.Random.choose", fail)
    words = ("bench", "--model", folder, *QUICK, "--methods", "pool,random", "--keep", "0.5", "--batch", "1,2")
    result = cli(*words)
    assert result.exit_code == 3
    assert "random at 0.5 FAILED: RuntimeError: sizes should be greater than 0" in result.stdout
    assert "batch 2: nothing could be measured: MemoryError: too many" in result.stdout
    assert "random at 0.5 FAILED: RuntimeError" in result.stderr
    one, two = json.loads(cli(*words, "--json").stdout)["batches"]
    assert ([row["method"] for row in one["rows"]], two["rows"]) == (["pool"], [])
