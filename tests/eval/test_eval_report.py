"""What a report says of records made up so that the right numbers are known."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from herovlm.errors import UsageError
from herovlm.eval import curves, page, records, summary, tables
from herovlm.eval.records import group_of

TASK = {"name": "t", "version": 1, "split": "s", "metric": "exact_match", "pictures": 40}
META = {"versions": {"herovlm": "0", "torch": "2", "transformers": "5"}, "machine": "x", "commit": "c"}
FACTS = {"class": "Model", "dtype": "float32", "device": "CPU"}
RIGHT = {  # how many of 10 pictures are right, by configuration
    "full@1.0": 10,
    "hero@0.2": 9,
    "hero@0.1": 8,
    "random@0.2": 3,
    "random@0.1": 2,
    "good@0.2": 9,
    "good@0.1": 10,
    "bad@0.2": 1,
    "bad@0.1": 2,
    "hero@0.2:original": 10,
}


def made(folder: Path, pictures: int = 40, right: dict[str, int] = RIGHT, **task: Any) -> Path:
    """A run in which the first of every ten pictures are answered rightly; two questions a picture, of two kinds."""
    told = {**TASK, **task}
    records.agree(folder, {**META, "settings": {"tasks": [told], "configs": [*right, "strict@0.1"]}, "model m": FACTS})
    with records.writing(folder, 0, 1) as writer:
        for picture in range(pictures):
            lines = []
            group = {"model": "m", "task": told["name"], "version": 1, "split": "s", "picture": str(picture)}
            for name, share in right.items():
                method, _, amount = name.partition("@")
                keep, _, numbers = amount.partition(":")
                about = {"method": method, "keep": float(keep), "positions": numbers or "compact"}
                good = picture % 10 < share
                for kind in ("easy", "hard"):
                    score = float(good or (kind == "easy" and name == "full@1.0"))
                    said = {"answer": "yes" if score else "no", "wanted": ["yes"], "score": score}
                    cost = {"kept": 100 * float(keep), "of": 100, "seconds": {"select": 0.1, "generate": 0.2}}
                    lines.append({**group, "sample": f"{picture}{kind}", "kind": kind, **about, **said, **cost})
            about = {"questions": 2, "refused": {"strict@0.1": "too small"}, "seconds": {"vision": 0.5}}
            writer.write(lines, {**group, "done": len(lines), **about})
    return folder


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    (found,) = summary.summarise([made(tmp_path / "run")])["tables"]
    return dict(found)


def test_scores_by_configuration_and_kind(table: dict[str, Any]) -> None:
    assert {name: config["accuracy"] for name, config in table["configs"].items()} == {
        name: 10.0 * share for name, share in RIGHT.items()
    }
    hero = table["configs"]["hero@0.2"]
    low, high = hero["interval95"]
    assert low < 90 < high
    assert (hero["scenes"], hero["questions"], hero["mean_positions"], hero["share_of_full"]) == (40, 80, 20.0, 90.0)
    assert hero["kinds"] == {"easy": 90.0, "hard": 90.0}
    assert hero["seconds"] == {"select": 0.1, "generate": 0.2}
    assert (table["mean_positions_full"], table["vision_seconds"]) == (100.0, 0.5)
    assert table["refused"] == {"strict@0.1": {"pictures": 40, "of": 40, "why": "too small"}}


def test_differences_are_paired_and_corrected(table: dict[str, Any]) -> None:
    configs = table["configs"]
    bad = configs["bad@0.2"]["against"]["hero"]
    assert (bad["with"], bad["difference"], bad["noise"]) == ("hero@0.2", -80.0, False)
    assert bad["interval95"][0] < -80 < bad["interval95"][1] < 0
    assert bad["p"] <= bad["holm"] < 0.05
    same = configs["good@0.2"]["against"]["hero"]
    assert (same["difference"], same["interval95"], same["p"], same["noise"]) == (0.0, [0.0, 0.0], 1.0, True)
    assert configs["bad@0.1"]["against"]["random"]["noise"]
    assert not configs["good@0.1"]["against"]["hero"]["noise"], "eight of forty pictures, all in one direction"
    assert configs["hero@0.2:original"]["against"]["hero"]["with"] == "hero@0.2"
    assert configs["hero@0.2:original"]["against"]["random"]["with"] == "random@0.2"
    assert configs["full@1.0"]["against"] == {}
    ours, theirs = configs["hero@0.2"]["against"]["random"], configs["random@0.2"]["against"]["hero"]
    assert (ours["difference"], ours["p"], ours["holm"]) == (-theirs["difference"], theirs["p"], theirs["holm"])


def test_the_table_says_what_is_noise(table: dict[str, Any]) -> None:
    columns, rows = tables.grid(table, tables.ASCII, intervals=False)
    assert columns == ["method", "keep=0.2", "keep=0.1"]
    assert {row[0]: row[1:] for row in rows} == {
        "good": ["90.0 =", "100.0 +"],
        "hero": ["90.0", "80.0"],
        "random": ["30.0 -", "20.0 -"],
        "bad": ["10.0 -", "20.0 - o"],
        "hero:original": ["100.0 =", ""],
    }
    assert [row[0] for row in rows] == ["good", "hero", "random", "bad", "hero:original"], "the best first, gaps last"
    notes = " ".join(tables.notes(table, tables.ASCII))
    assert notes.isascii()
    for words in (
        "80 questions about 40 pictures",
        "100.0 [",
        "= not distinguishable",
        "o not",
        "strict@0.1 cannot on 40 of 40",
    ):
        assert words in notes
    assert "▲" in str(tables.grid(table))


def test_the_files_of_a_report(tmp_path: Path) -> None:
    found = summary.summarise([made(tmp_path / "run"), made(tmp_path / "other", name="u|<b>")])
    outs = [tmp_path / "one", tmp_path / "two"]
    for out in outs:
        assert page.write(found, out) == out / "report.html"
    names = sorted(path.name for path in outs[0].iterdir())
    drawn = [f"{task}-s-m.{kind}" for task in ("t", "u-b-") for kind in ("png", "svg")]
    assert names == sorted([*drawn, "report.html", "summary.json", "table.csv", "table.md"])
    for name in names:
        one, two = ((out / name).read_bytes() for out in outs)
        assert one == two, f"{name} is not the same the second time"
    assert json.loads((outs[0] / "summary.json").read_text("utf-8")) == found
    html = (outs[0] / "report.html").read_text("utf-8")
    assert html.count("<svg") == 2
    assert not re.findall(r"(?:src|href)=[\"'](?!#)", html.replace("xlink:href", "href")), "all of it is in the page"
    assert "u|&lt;b&gt; s" in html
    assert "<b>" not in html
    assert "good@0.2" in html
    markdown = (outs[0] / "table.md").read_text("utf-8")
    assert "| `good` | 90.0 [" in markdown
    rows = list(csv.DictReader(io.StringIO((outs[0] / "table.csv").read_text("utf-8"))))
    assert len(rows) == 2 * len(RIGHT)
    (bad,) = [row for row in rows if (row["task"], row["method"], row["keep"]) == ("t", "bad", "0.2")]
    assert (bad["accuracy"], bad["against_hero"], bad["kind_hard"]) == ("10.0", "-80.0", "10.0")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    found = summary.summarise([made(tmp_path / "run")])
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write to"):
        page.write(found, tmp_path / "file" / "below")


def test_curves_are_by_what_was_really_kept(table: dict[str, Any]) -> None:
    found = curves.curves(table)
    assert [config["mean_positions"] for config in found["hero"]] == [10.0, 20.0]
    assert list(found)[:2] == ["good", "hero"]
    assert "full" not in found
    many = {**table, "configs": {f"m{i}@0.2": {**table["configs"]["bad@0.2"], "method": f"m{i}"} for i in range(60)}}
    styles = curves._styles(curves.curves(many))
    assert len({(style["color"], style["marker"]) for style in styles.values()}) == 60, "no two look the same"


def test_runs_add_up_and_the_first_counts(tmp_path: Path) -> None:
    first = made(tmp_path / "a", 10, {"full@1.0": 10, "hero@0.2": 10})
    second = made(tmp_path / "b", 20, {"hero@0.2": 0, "random@0.2": 10})
    (table,) = summary.summarise([first, second])["tables"]
    assert (table["configs"]["hero@0.2"]["accuracy"], table["configs"]["hero@0.2"]["scenes"]) == (50.0, 20)
    assert summary.summarise([second, first])["tables"][0]["configs"]["hero@0.2"]["accuracy"] == 0
    assert table["configs"]["random@0.2"]["against"]["hero"]["difference"] == 50.0


def test_runs_that_cannot_be_compared(tmp_path: Path) -> None:
    first = made(tmp_path / "a")
    for name, change in (("metric", {"metric": "anls"}), ("prompt", {"prompt": "x"})):
        with pytest.raises(UsageError, match=f"the task t: {name}"):
            summary.summarise([first, made(tmp_path / name, **change)])
    other = tmp_path / "other"
    settings = {"tasks": [TASK], "configs": []}
    records.agree(other, {**META, "versions": {"torch": "1"}, "settings": settings, "model m": FACTS})
    with pytest.raises(UsageError, match="no answer in"):
        summary.summarise([other])
    with pytest.raises(UsageError, match="versions: "):
        summary.summarise([first, other])


def test_f1_of_yes_is_no_mean(tmp_path: Path) -> None:
    (table,) = summary.summarise([made(tmp_path / "run", metric="pope_f1")])["tables"]
    hero = table["configs"]["hero@0.2"]  # yes is always wanted, and said in 9 of 10: precision 1, recall 0.9
    assert hero["accuracy"] == pytest.approx(100 * 2 * 0.9 / 1.9, abs=0.05)
    assert hero["interval95"][0] < hero["accuracy"] < hero["interval95"][1]
    assert table["metric"] == 'F1 of "yes", percent'


def test_only_closed_pictures_count(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    file = run / "records-0-of-1.jsonl"
    lines = file.read_text("utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[:-1]), "utf-8")
    (table,) = summary.summarise([run])["tables"]
    assert {config["scenes"] for config in table["configs"].values()} == {39}
    assert group_of(json.loads(lines[-1]))[3] == "39"
