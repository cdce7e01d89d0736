"""`herovlm icl`: the whole recipe on a few figures and a tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from saved import Cli

FEW = ("--shots", 2, "--pool", 5, "--limit", 2, "--max-new-tokens", 2)


def test_the_whole_recipe_and_going_on(cli: Cli, folder: Path, tmp_path: Path) -> None:
    words = ["icl", "--model", folder, *FEW, "--keep-examples", "0.5,0.25", "--out", "run"]
    done = cli(*words, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    full, few = found["rows"]
    assert (full["method"], full["examples"], full["same_as_full"]) == ("full", "1.0", 1.0)
    assert (few["method"], few["examples"]) == ("hero", "0.5,0.25")
    assert few["positions"] < full["positions"] == full["of"]
    assert found["people"] == 2
    assert 0 <= found["vote"]["accuracy"] <= 1
    file = tmp_path / "run/records-0-of-1.jsonl"
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    dropped = [line for line in lines if line.get("method") == "hero"]
    for line in dropped:
        first, second, asked = line["of"]
        assert line["kept"] == [round(first * 0.5), round(second * 0.25), asked]
        assert [line["length"] - sum(line["kept"])] == [
            one["length"] - sum(one["kept"])
            for one in lines
            if one.get("method") == "full" and one["sample"] == line["sample"]
        ]
    before = file.read_bytes()
    file.write_bytes(before[: before.index(b'"done"')])  # cut off while the first was being written
    assert cli(*words).exit_code == 0
    again = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    told = ("sample", "method", "answer", "kept", "examples")
    assert [[one.get(name) for name in told] for one in again] == [[one.get(name) for name in told] for one in lines]
    table = cli(*words)
    assert file.read_bytes().count(b"\n") == len(lines)
    for word in ("0.5,0.25", "vote of 2", "nearest example", "accuracy"):
        assert word in table.stdout
    other = cli("icl", "--model", folder, *FEW, "--shots", 1, "--out", "run")
    assert other.exit_code == 2
    assert "another --out" in other.stderr


def test_without_examples_and_as_the_authors_write(cli: Cli, folder: Path) -> None:
    done = cli("icl", "--model", folder, *FEW, "--shots", 0, "--generation", "authors", "--out", "none", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["vote"] is None
    assert found["generation"] == {
        "do_sample": True,
        "num_beams": 3,
        "temperature": 0.2,
        "top_p": 0.9,
        "max_new_tokens": 2,
        "name": "authors",
        "seed": 0,
    }


def test_where_all_positions_are_too_many_fewer_are_read(cli: Cli, folder: Path, tmp_path: Path) -> None:
    words = ["icl", *FEW, "--limit", 1, "--keep-examples", "0.1"]
    full, few = json.loads(cli(*words, "--model", folder, "--json").stdout)["rows"]
    small = tmp_path / "small"
    shutil.copytree(folder, small)
    config = json.loads((small / "config.json").read_text("utf-8"))
    config["text_config"]["max_position_embeddings"] = int(few["length"]) + 2  # and an answer of two
    (small / "config.json").write_text(json.dumps(config))
    done = cli(*words, "--model", small, "--out", "small-run", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["method"] for row in found["rows"]] == ["hero"]
    assert found["rows"][0]["same_as_full"] is None
    assert f"has {int(full['length']):,} positions" in found["refused"][0]
    assert "not asked for" in cli(*words, "--model", small, "--out", "small-run").stdout
    too_long = cli(*words, "--model", small, "--out", "other", "--max-new-tokens", 3)
    assert too_long.exit_code == 3
    assert "show fewer examples" in " ".join(too_long.stderr.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data", "gone"), "there is no folder 'gone'"),
        (("--generation", "hot"), "use greedy or authors"),
        (("--keep-examples", "2"), "--keep-examples 2"),
        (("--keep-query", "0"), "--keep-query 0"),
        (("--keep-query", "1,0.5"), "one picture is asked about"),
        (("--shots", "33"), "32"),
        (("--shots", "6"), "6 examples are wanted, and the pool has 5"),
        (("--retriever", "gone"), "gone is no CLIP on this machine"),
    ],
)
def test_wrong_use_is_one_sentence(cli: Cli, folder: Path, words: tuple[str, str], said: str) -> None:
    done = cli("icl", "--model", folder, *FEW, *words)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


def test_a_picture_that_cannot_be_read_leaves_the_rest(cli: Cli, folder: Path, tmp_path: Path, photo: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "labels.txt").write_text("Peace\nFear\n")
    line = {"box": [1, 1, 50, 60], "labels": ["Peace"]}
    rows = [{"image": "photo.png", **line}, {"image": "bad.png", **line}]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "pool.jsonl").write_text(json.dumps({"image": "photo.png", **line, "box": [2, 2, 9, 9]}) + "\n")
    done = cli("icl", "--model", folder, "--data", tmp_path, "--shots", 1, "--max-new-tokens", 2, "--json")
    assert done.exit_code == 3
    assert json.loads(done.stdout)["people"] == 1
    assert "bad.png" in done.stderr
