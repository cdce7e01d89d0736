"""The rows of a shard: the answers of `herovlm.drop`, and a bad row spoils no other."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import herovlm
from herovlm import demo
from herovlm.demo import scenes
from herovlm.engines.engine import Answer
from herovlm.engines.ray.answer import Answering
from herovlm.engines.ray.manifest import Row
from herovlm.engines.ray.tries import MOST, Tries
from herovlm.engines.transformers import Transformers
from herovlm.errors import SetupError
from herovlm.pictures import open_picture
from herovlm.prompt.template import prompt
from herovlm.request import Request


@pytest.fixture(scope="module")
def ready():
    return demo.load()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    folder, found = tmp_path_factory.mktemp("pile"), []
    for seed in range(3):
        board = scenes.make(seed)
        board.image.save(folder / f"{seed}.png")
        found += [Row(f"{seed}-{n}", str(folder / f"{seed}.png"), q.text) for n, q in enumerate(board.questions[:2])]
    return found


def tries(folder: Path) -> Tries:
    return Tries(folder / "tries")


def plain(ready, row: Row) -> tuple[str, int]:
    """The answer of one `drop`."""
    model, processor = ready
    text = prompt(processor, row.question)
    inputs = processor(images=open_picture(row.image), text=text, return_tensors="pt")
    short = herovlm.drop(model, inputs.to(model.dtype), method="hero", keep=0.3, processor=processor)
    out = model.generate(**short, max_new_tokens=8, do_sample=False, pad_token_id=0)
    said = processor.tokenizer.decode(out[0, short["input_ids"].shape[1] :], skip_special_tokens=True)
    return said.strip(), short.kept[0].positions


def test_answers_are_those_of_drop(ready, rows: list[Row], tmp_path: Path) -> None:
    answering = Answering(Transformers(*ready, Request.of("hero", keep=0.3), max_new_tokens=8), batch=4)
    found = answering.answer(rows, tries(tmp_path))
    assert [one["id"] for one in found] == [row.id for row in rows]
    assert [(one["answer"], one["kept"]) for one in found] == [plain(ready, row) for row in rows]
    assert all(one["error"] is None and one["of"] > one["kept"] > 0 for one in found)


def test_a_bad_row_says_why_and_spoils_no_other(ready, rows: list[Row], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(Path(rows[0].image).read_bytes()[:200])
    bad = [
        Row("gone", str(tmp_path / "none.png"), "?"),
        Row("broken", str(tmp_path / "broken.png"), "?"),
        Row("token", rows[0].image, "what is <image> here?"),
        Row("long", rows[0].image, "what? " * 4000),
    ]
    answering = Answering(Transformers(*ready, Request.of("hero", keep=0.3), max_new_tokens=8), batch=8)
    found = {one["id"]: one for one in answering.answer([rows[0], *bad, rows[2]], tries(tmp_path))}
    assert "no file" in found["gone"]["error"]
    assert "broken" in found["broken"]["error"]
    assert "stands for a picture" in found["token"]["error"]
    assert "ask a shorter question" in found["long"]["error"]
    for row in (rows[0], rows[2]):
        assert (found[row.id]["answer"], found[row.id]["kept"]) == plain(ready, row)


def test_what_is_missing_on_this_machine_is_no_row(
    ready, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*args: object, **kwargs: object) -> None:
        raise SetupError("no text tower")

    monkeypatch.setattr("herovlm.engines.transformers.see", gone)
    with pytest.raises(SetupError):
        Answering(Transformers(*ready, Request.of("hero", keep=0.3))).answer(rows[:1], tries(tmp_path))


class Died(BaseException):
    """What nothing catches, as the death of a process."""


@pytest.mark.parametrize("deadly", [{"3"}, {"0", "3", "4"}, {str(n) for n in range(7)}])
def test_a_row_that_kills_is_given_up_and_costs_only_itself(deadly: set[str], rows: list[Row], tmp_path: Path) -> None:
    some, together = [Row(str(n), rows[0].image, str(n)) for n in range(7)], []

    def engine(asked):
        together.append([one.question for one in asked])
        if deadly & {*together[-1]}:
            raise Died
        return [Answer(one.question, 1.0, 2) for one in asked]

    found: list[dict[str, Any]] = []
    for _ in range(MOST * len(deadly) + 1):
        with suppress(Died):
            found = found or Answering(engine, batch=3).answer(some, tries(tmp_path))
    assert {one["id"]: one["answer"] for one in found} == {
        str(n): None if str(n) in deadly else str(n) for n in range(7)
    }
    assert {one["id"] for one in found if f"{MOST} processes died" in (one["error"] or "")} == deadly
    for one in deadly:
        assert sum(one in asked for asked in together) == MOST
    assert not (tmp_path / "tries").exists()
