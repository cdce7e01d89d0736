"""What a batch is asked: three kinds of files say the same, and whatever is wrong with one is said at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="the extra 'ray' brings it")

import pyarrow as pa
import pyarrow.parquet as pq

from herovlm.engines.ray import manifest
from herovlm.errors import InputsError

ROWS = [
    {"id": "007", "image": "a.png", "question": 'what, "here"?'},
    {"id": "x y", "image": "/b.png", "question": "ö?"},
]


def jsonl(path: Path) -> None:
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n", "utf-8")


def csv(path: Path) -> None:
    path.write_text('image,id,question,other\na.png,007,"what, ""here""?",1\n/b.png,x y,ö?,2\n', "utf-8")


def parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{**row, "other": 1.5} for row in ROWS]), path)


@pytest.mark.parametrize(("name", "write"), [("m.jsonl", jsonl), ("m.csv", csv), ("m.parquet", parquet)])
def test_every_kind_of_file_says_the_same(name: str, write, tmp_path: Path) -> None:
    write(tmp_path / name)
    assert manifest.read(tmp_path / name) == [
        manifest.Row("007", str(tmp_path.resolve() / "a.png"), 'what, "here"?'),
        manifest.Row("x y", "/b.png", "ö?"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("m.txt", "", r"give a file of the kind"),
        ("m.jsonl", "", "no rows"),
        ("m.jsonl", "{", "line 1 is not JSON"),
        ("m.jsonl", "[1]", "line 1 is"),
        ("m.jsonl", '{"id": "a", "image": "x"}', "row 1: question is None"),
        ("m.jsonl", '{"id": "a", "image": "x", "question": "?"}\n' * 2, "rows 1 and 2 have the same id 'a'"),
        ("m.jsonl", '{"id": true, "image": "x", "question": "?"}', "id is True"),
        ("m.jsonl", '{"id": " ", "image": "x", "question": "?"}', "id is ' '"),
        ("m.csv", "id,image\na,b\n", "lacks the columns question; it has id, image"),
        ("m.csv", "id,image,question\na,b,\n", "row 1: question is"),
        ("m.parquet", "not parquet", "cannot be read"),
    ],
)
def test_what_is_wrong_is_said(name: str, text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputsError, match=match):
        manifest.read(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputsError, match="there is no file"):
        manifest.read(tmp_path / "none.csv")


def test_the_digest_knows_rows_and_not_their_order() -> None:
    rows = [manifest.Row("a", "x", "?"), manifest.Row("b", "x", "?")]
    assert manifest.digest(rows) == manifest.digest(rows[::-1])
    assert manifest.digest(rows) != manifest.digest([rows[0], manifest.Row("b", "x", "!")])
