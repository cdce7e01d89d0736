"""`herovlm eval` and `herovlm report`: records, tables and pages of a tiny model on files of one's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import tiny
from saved import Cli

from herovlm.cli.eval import part_of

KINDS = ("colour", "place")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Three pictures, two questions each."""
    lines = []
    for n, (width, height) in enumerate([(100, 80), (60, 31), (20, 60)]):
        tiny.picture(width, height, n).save(tmp_path / f"{n}.png")
        lines += [{"image": f"{n}.png", "question": f"what {k}?", "answers": ["a", n], "kind": k} for k in KINDS]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def words(folder: Path, questions: Path) -> list[object]:
    what = ["--task", questions, "--metric", "anls", "--model", folder, "--max-new-tokens", 2]
    return ["eval", *what, "--methods", "hero,random,fastv(layer=1)", "--keep", "0.5", "--tokens", "6", "--out", "run"]


STRATEGIES = ("second(stages=(0, 1))", "second(stages=(0, 1), refresh='every')", "full + contrast")


def lines_of(run: Path) -> list[dict[str, object]]:
    texts = [path.read_text("utf-8") for path in sorted(run.glob("records-*.jsonl"))]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def test_records_and_a_table(cli: Cli, folder: Path, questions: Path, tmp_path: Path) -> None:
    result = cli(*words(folder, questions))
    assert result.exit_code == 0, result.stderr
    records = [line for line in lines_of(tmp_path / "run") if "done" not in line]
    told = {(r["method"], r["keep"]) for r in records}
    early = {("full", 1.0), ("hero", 0.5), ("hero", "6t"), ("random", 0.5), ("random", "6t")}
    assert early <= told
    for method, keep in early:
        found = [r for r in records if (r["method"], r["keep"]) == (method, keep)]
        assert [(r["picture"], r["kind"]) for r in found] == [(f"{n}.png", kind) for n in range(3) for kind in KINDS]
        for r in found:
            assert r["kept"] == (6 if isinstance(keep, str) else round(keep * r["of"]))
            assert 0 <= r["score"] <= 1
            assert r["wanted"] == ["a", r["picture"][0]]
            assert (r["task"], r["model"], r["positions"], r["seed"]) == ("mine", str(folder), "compact", None)
            assert set(r["seconds"]) == {"select", "generate"}
    for word in (
        "hero",
        "random",
        "keep=0.5",
        "tokens=6",
        "ANLS, percent, 6 questions about 3 pictures",
        "records: run",
    ):
        assert word in result.stdout
    assert "fastv(layer=1)@6t cannot on 3 of 3 pictures" in result.stdout


def test_json_is_the_summary_and_asking_again_asks_nothing(
    cli: Cli, folder: Path, questions: Path, tmp_path: Path
) -> None:
    first = cli(*words(folder, questions), "--json")
    before = lines_of(tmp_path / "run")
    again = cli(*words(folder, questions), "--json")
    assert lines_of(tmp_path / "run") == before
    assert json.loads(first.stdout) == json.loads(again.stdout)
    (table,) = json.loads(first.stdout)["tables"]
    assert (table["task"], table["split"], table["asked"]["metric"]) == ("mine", "all", "anls")
    assert set(table["configs"]["hero@0.5"]["kinds"]) == set(KINDS)


def test_two_parts_fill_one_folder(cli: Cli, folder: Path, questions: Path, tmp_path: Path) -> None:
    whole = words(folder, questions)
    parts = [*whole[:-1], "parts"]
    for command in (whole, [*parts, "--part", "1/2"], [*parts, "--part", "0/2"]):
        assert cli(*command).exit_code == 0
    both, one = (
        sorted(json.dumps({k: v for k, v in line.items() if k != "seconds"}) for line in lines_of(tmp_path / name))
        for name in ("parts", "run")
    )
    assert both == one
    assert len(list((tmp_path / "parts").glob("records-*.jsonl"))) == 2


def test_limit_and_seed_choose_pictures(cli: Cli, folder: Path, questions: Path, tmp_path: Path) -> None:
    seen = {}
    for seed in range(4):
        out = tmp_path / str(seed)
        assert cli(*words(folder, questions), "--limit", 1, "--seed", seed, "--out", out).exit_code == 0
        (seen[seed],) = {str(line["picture"]) for line in lines_of(out)}
    assert len(set(seen.values())) > 1


def test_a_run_goes_on_only_as_it_was(cli: Cli, folder: Path, questions: Path, tmp_path: Path) -> None:
    assert cli(*words(folder, questions)).exit_code == 0
    before = lines_of(tmp_path / "run")
    for change, says in (
        (("--keep", "0.2"), "settings: configs"),
        (("--limit", "1"), "pictures 3, and this one has 1"),
        (("--max-new-tokens", "3"), "max_new_tokens 2, and this one has 3"),
        (("--positions", "original"), "configs"),
    ):
        result = cli(*words(folder, questions), *change)
        assert (result.exit_code, result.stdout) == (2, "")
        assert says in result.stderr
        assert "give another --out" in result.stderr
    questions.write_text(questions.read_text() + questions.read_text().splitlines()[0] + "\n")
    assert "data" in cli(*words(folder, questions)).stderr
    assert lines_of(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("--task", "bord"), "did you mean 'board'"),
        (("--task", "empty.jsonl"), "holds no questions"),
        (("--task", "lost.jsonl"), "line 1: there is no picture"),
        (("--metric", "anl"), "did you mean 'anls'"),
        (("--split", "test"), "no split 'test'"),
        (("--keep", "0"), "--keep 0"),
        (("--keep", "1.5"), "--keep 1.5"),
        (("--keep", "150"), "--tokens 150"),
        (("--tokens", "0.2"), "--tokens '0.2'"),
        (("--methods", "heroo"), "did you mean 'hero'"),
        (("--positions", "old"), "'compact' or 'original'"),
        (("--part", "2/2"), "--part 0/2"),
        (("--part", "one"), "--part 0/2"),
        (("--threads", "100000"), "--threads 100000 is more than this machine can use"),
        (("--methods", f"random(seed={10**30})"), "seed"),
        (("--out", "mine.jsonl"), "cannot write to"),
        (("--out", "mine.jsonl/below"), "cannot write to"),
        (("--model", "./none"), "not the folder of a model"),
        (("--task", "board", "--task", "board"), "two tasks of one name"),
    ],
)
def test_wrong_use(cli: Cli, folder: Path, questions: Path, change: tuple[str, ...], says: str) -> None:
    (questions.parent / "empty.jsonl").write_text("\n")
    (questions.parent / "lost.jsonl").write_text('{"image": "x.png", "question": "?", "answer": "!"}\n')
    given = words(folder, questions)
    if change[0] == "--task":
        given[1:3] = []
    if change[0] == "--model":
        given[given.index("--model") :][:2] = []
        at = given.index("--model")
        given[at : at + 2] = []
    result = cli(*given, *change)
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_a_broken_picture_is_a_line_and_is_asked_about_when_it_is_mended(
    cli: Cli, folder: Path, questions: Path, tmp_path: Path
) -> None:
    good = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(good[:100])
    for _ in range(2):
        result = cli(*words(folder, questions))
        assert result.exit_code == 3
        assert "1.png is broken or cut off" in result.stderr
        assert "4 questions about 2 pictures" in result.stdout
        assert "1.png could not be used and is in no number" in result.stdout
        assert cli("report", "run").exit_code == 0
    done = [line for line in lines_of(tmp_path / "run") if "done" in line]
    assert [line["picture"] for line in done] == ["0.png", "1.png", "2.png", "1.png"]
    (tmp_path / "1.png").write_bytes(good)
    result = cli(*words(folder, questions))
    assert result.exit_code == 0, result.stderr
    assert "6 questions about 3 pictures" in result.stdout
    assert [line["picture"] for line in lines_of(tmp_path / "run") if "done" in line][4:] == ["1.png"]


def test_a_picture_that_is_another_by_now_is_noticed(cli: Cli, folder: Path, questions: Path, tmp_path: Path) -> None:
    assert cli(*words(folder, questions)).exit_code == 0
    before, good = lines_of(tmp_path / "run"), (tmp_path / "2.png").read_bytes()
    for change in (lambda path: tiny.picture(20, 60, 9).save(path), lambda path: path.unlink()):
        change(tmp_path / "2.png")
        result = cli(*words(folder, questions))
        assert (result.exit_code, result.stdout) == (2, "")
        assert "2.png" in result.stderr
        assert lines_of(tmp_path / "run") == before
    (tmp_path / "2.png").write_bytes(good)
    assert cli(*words(folder, questions)).exit_code == 0


def fail(*_: object, **__: object) -> None:
    raise RuntimeError("sizes should be greater than 0")


def test_a_method_that_breaks_ends_no_run(
    cli: Cli, folder: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("herovlm.methods.random.Random.choose", fail)
        result = cli(*words(folder, questions))
    assert result.exit_code == 3
    assert "random@0.5: RuntimeError: sizes should be greater than 0" in result.stderr
    assert "random@0.5 FAILED on 3 of 3 pictures: RuntimeError: sizes should be greater than 0" in result.stdout
    assert "Traceback" not in result.stderr
    assert {str(line["method"]) for line in lines_of(tmp_path / "run") if "done" not in line} >= {"full", "hero"}
    again = cli(*words(folder, questions), "--json")
    assert again.exit_code == 0, "what failed was tried again"
    (table,) = json.loads(again.stdout)["tables"]
    assert (table["failed"], table["unusable"]) == ({}, {})
    assert {config["questions"] for config in table["configs"].values()} == {6}


def test_a_model_that_is_not_there_does_not_keep_the_others_from_being_asked(
    cli: Cli, folder: Path, questions: Path, tmp_path: Path
) -> None:
    given = words(folder, questions)
    at = given.index("--model")
    result = cli(*given[:at], "--model", "./none", *given[at:])
    assert result.exit_code == 2
    assert "./none is not the folder of a model" in result.stderr
    assert {str(line["picture"]) for line in lines_of(tmp_path / "run")} == {"0.png", "1.png", "2.png"}
    assert cli("report", "run").exit_code == 0


def test_when_nothing_can_be_answered_it_says_why(
    cli: Cli, folder: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = [{**json.loads(line), "question": "why " * 5000} for line in questions.read_text().splitlines()]
    questions.write_text("".join(json.dumps(line) + "\n" for line in long))
    for command in (words(folder, questions), ["report", "run"]):
        result = cli(*command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "nothing was answered in run: full@1.0 cannot: the prompt has" in result.stderr


def test_a_part_without_pictures_says_so(cli: Cli, folder: Path, questions: Path) -> None:
    result = cli(*words(folder, questions), "--part", "4/5")
    assert result.exit_code == 0
    assert "fewer pictures than parts" in result.stdout


def test_a_share_is_read_strictly() -> None:
    assert part_of("1/3") == (1, 3)


@pytest.mark.parametrize("command", ["eval", "calibrate"])
@pytest.mark.parametrize("module", ["scipy.stats", "rapidfuzz"])
def test_a_missing_extra_is_named_before_any_work(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    result = cli(command, "demo", "--out", "run") if command == "calibrate" else cli(command, "--out", "run")
    assert result.exit_code == 1
    assert "extra 'eval': pip install" in " ".join(result.stderr.split())
    assert [*tmp_path.iterdir()] == []


def test_a_strategy_may_read_more_than_the_picture_has(cli: Cli, folder: Path, questions: Path, tmp_path: Path) -> None:
    """Over all its passes; its records are read again, by `eval` and `report`, and stand beside those of others."""
    what = ["--task", questions, "--metric", "anls", "--model", folder, "--max-new-tokens", 2, "--out", "run"]
    done = cli("eval", *what, "--methods", ",".join(["hero", *STRATEGIES]), "--keep", "1")
    assert done.exit_code == 0, done.stderr
    assert cli("report", "run").exit_code == 0
    records = [line for line in lines_of(tmp_path / "run") if "done" not in line]
    strategies = [line for line in records if line["method"] not in ("full", "hero")]
    assert len({line["method"] for line in strategies}) == len(STRATEGIES)
    assert all(line["facts"] and line["kept"] > line["of"] for line in strategies)
