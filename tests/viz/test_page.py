"""The page: whole, self-contained, readable without eyes, and safe with any text."""

from __future__ import annotations

import errno
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from reports import a_report

from herovlm.errors import InputsError
from herovlm.types import KeptInside
from herovlm.viz import page
from herovlm.viz.records import Refused, Report

VOID = {"meta", "input", "br", "link", "img", "hr"}


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def test_every_tag_is_closed() -> None:
    assert Reader(page.render(a_report())).open == []


def test_nothing_is_loaded_from_anywhere() -> None:
    html = page.render(a_report())
    assert "//" not in re.sub(r"data:image/\w+;base64,[\w+/=]+", "", html)
    for _, attrs in Reader(html).tags:
        for name in ("src", "href", "xlink:href", "action"):
            assert (attrs.get(name) or "#").startswith(("#", "data:"))


def test_a_policy_forbids_the_network() -> None:
    policies = [x["content"] for x in Reader(page.render(a_report())).all("meta") if "http-equiv" in x]
    assert len(policies) == 1
    assert "default-src 'none'" in str(policies[0])


def test_the_numbers_are_on_the_page() -> None:
    report = a_report()
    text = Reader(page.render(report)).text
    hero = report.asked[0].answers[1]
    assert f"{hero.positions}" in text
    assert f"{hero.of}" in text
    for written in (
        "173 ms",
        "106 ms",
        "273 ms",
        "206 ms",
        "2.86 MiB",
        "684 KiB",
        "1.6 x",
        "4.3 x",
        "seven",
        "0 of 2 right",
    ):
        assert written in text
    seen, kept = hero.views[0]
    for count in kept.granted.tolist() + seen.valid.sum(1).tolist():
        assert re.search(rf"\b{count}\b", text)


def test_right_and_wrong_are_said_in_words() -> None:
    text = Reader(page.render(a_report())).text
    assert "✓ right" in text
    assert "✗ wrong" in text


def test_without_a_true_answer_nothing_is_judged() -> None:
    report = a_report()
    answers = tuple(replace(answer, right=None) for answer in report.asked[0].answers)
    asked = replace(report.asked[0], answers=answers, truth=None, kind=None)
    text = Reader(page.render(replace(report, asked=(asked,)))).text
    assert not re.search("✓|✗|of 1 right|True answer", text)


@pytest.mark.parametrize("evil", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "<!--"])
def test_text_from_outside_stays_text(evil: str) -> None:
    report = a_report(question=evil, text=evil)
    report = replace(report, title=evil, model=evil, pictures=((evil, report.pictures[0][1]),))
    reader = Reader(page.render(report))
    assert evil in reader.text
    assert reader.open == []
    assert reader.all("script") == []
    assert not any("onerror" in attrs for _, attrs in reader.tags)


def test_every_view_has_its_words() -> None:
    report = a_report(pictures=2)
    drawn = [str(x["aria-label"]) for x in Reader(page.render(report)).all("div") if x.get("role") == "img"]
    assert len(drawn) == 2 * 2 * (2 + 4)  # questions x pictures x views: full has two, hero two and two scores
    seen, kept = report.asked[0].answers[1].views[0]
    (said,) = {
        words for words in drawn if f"keeps {kept.positions} of {seen.positions} visual" in words and "2.png" in words
    }
    assert said.startswith("picture 2.png: hero, keep 0.25 keeps")
    assert f"thumbnail gets {int(kept.granted[0])} of 16 patches" in said
    assert f"tile 1 (row 1, column 1) gets {int(kept.granted[1])} of 12 patches" in said
    assert any("weight of every tile: tile 1 (row 1, column 1) 0.12;" in words for words in drawn)
    assert any("score of every patch: from" in words and "highest in tile 4" in words for words in drawn)


def test_switches_are_radio_buttons_with_labels() -> None:
    reader = Reader(page.render(a_report(pictures=3)))
    assert {x["type"] for x in reader.all("input")} == {"radio"}
    names = [x["name"] for x in reader.all("input")]
    assert {n: names.count(n) for n in names} == {"question": 2, "view": 4, "method": 3, "picture": 4}
    assert len(reader.all("label")) == len(names)
    assert sum("checked" in x for x in reader.all("input")) == 4


def test_what_is_not_chosen_is_hidden_on_the_screen_only() -> None:
    html = page.render(many(6))
    reader = Reader(html)
    screen = html.split("@media screen {")[1].split("</style>")[0]
    hidden = set(
        re.findall(r"has\(\[name=(\w+)\]\[value=\"(\w+)\"\]:checked\) \.by-(\w+):not\(\.(\w+)-(\w+)\)", screen)
    )
    chosen = {(x["name"], x["value"]) for x in reader.all("input") if x["value"] != "all"}
    assert {(name, value) for name, value, *_ in hidden} == chosen
    assert all(name == part == mark and value == at for name, value, part, mark, at in hidden)
    marked = {mark for _, x in reader.tags for mark in (x.get("class") or "").split()}
    assert {f"{name}-{value}" for name, value in chosen} <= marked
    assert html.count(":checked) .by-") == len(hidden)  # nowhere but there


def test_no_script_is_needed() -> None:
    assert Reader(page.render(many())).all("script") == []


def test_one_question_and_one_method_need_no_switch_for_them() -> None:
    report = a_report()
    asked = replace(report.asked[0], answers=report.asked[0].answers[:1])
    assert Reader(page.render(replace(report, asked=(asked,)))).all("input")[0]["name"] == "view"
    assert {x["name"] for x in Reader(page.render(replace(report, asked=(asked,)))).all("input")} == {"view"}


def test_a_picture_is_stored_once_however_often_it_is_drawn() -> None:
    reader = Reader(page.render(a_report(pictures=2)))
    stored = [x for x in reader.all("image") if "class" not in x]
    assert len(stored) == 2
    used = {str(x["href"]) for x in reader.all("use") if "photo" in str(x["href"])}
    assert len(used) == 2
    assert used <= {f"#{x['id']}" for x in reader.all("symbol")}


def test_names_inside_the_page_lead_somewhere() -> None:
    reader = Reader(page.render(a_report(pictures=2)))
    named = [x["id"] for _, x in reader.tags if "id" in x]
    assert len(named) == len(set(named))
    assert {str(x["href"]) for x in reader.all("use")} <= {f"#{name}" for name in named}
    clips = {str(x["clip-path"]) for x in reader.all("g") if "clip-path" in x}
    assert clips <= {f"url(#{name})" for name in named}
    assert clips


def many(count: int = 20) -> Report:
    """One question, `count` methods, and one that could not answer."""
    report = a_report()
    full, hero = report.asked[0].answers
    others = tuple(replace(hero, method=f"random(seed={i})") for i in range(count - 1))
    refused = (Refused("strict", 0.25, "keep=0.25 is <too> little"),)
    return replace(report, asked=(replace(report.asked[0], answers=(full, *others), refused=refused),))


def test_many_methods_are_one_table_that_leads_to_small_drawings() -> None:
    reader = Reader(page.render(many()))
    classes = [str(x.get("class")) for x in reader.all("section") + reader.all("div")]
    assert "cards" not in classes
    assert "herovlm many" in classes
    led = [x["href"] for x in reader.all("a")]
    assert led == [f"#{x['id']}" for x in reader.all("figure")] == [f"#m{i}" for i in range(20)]
    assert "keep 0.25" not in reader.text.replace("strict, keep 0.25", "")


def test_a_method_of_several_budgets_is_told_apart() -> None:
    report = many(6)
    answers = report.asked[0].answers
    other = replace(answers[1], keep=0.125)
    report = replace(report, asked=(replace(report.asked[0], answers=(*answers, other)),))
    text = Reader(page.render(report)).text
    assert "random(seed=0), keep 0.25" in text
    assert "random(seed=0), keep 0.125" in text


@pytest.mark.parametrize("count", [2, 20])
def test_a_method_that_could_not_answer_says_why(count: int) -> None:
    assert "strict, keep 0.25cannot: keep=0.25 is <too> little" in Reader(page.render(many(count))).text


def test_what_the_layers_read_is_told_and_drawn() -> None:
    report = a_report()
    full, hero = report.asked[0].answers
    inside = KeptInside((hero.positions, hero.positions, 4), {2: torch.arange(4)}, {})
    chain = replace(hero, method="hero + fastv", inside=(inside,))
    alone = replace(full, method="fastv", keep=0.5, inside=(replace(inside, positions=(full.positions, 4, 4)),))
    report = replace(report, asked=(replace(report.asked[0], answers=(full, chain, alone)),))
    reader = Reader(page.render(report))
    for text in ("fastv, keep 0.5", f"{hero.positions} → 4", f"{full.positions} → 4", "layers"):
        assert text in reader.text
    assert "layers" not in Reader(page.render(a_report())).text.replace("between layers", "")


def test_questions_with_other_methods_are_refused() -> None:
    report = a_report()
    other = replace(report.asked[0], answers=report.asked[0].answers[::-1])
    with pytest.raises(InputsError, match="same methods"):
        page.render(replace(report, asked=(report.asked[0], other)))


def test_a_missing_view_is_refused() -> None:
    report = a_report()
    with pytest.raises(InputsError, match="2 pictures"):
        page.render(replace(report, pictures=report.pictures * 2))


def test_the_file_is_whole(tmp_path: Path) -> None:
    path = page.write(a_report(), tmp_path / "a.html")
    assert path.read_text(encoding="utf-8") == page.render(a_report())
    assert [x.name for x in tmp_path.iterdir()] == ["a.html"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.html"
    path.write_text("old")

    def broken(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        page.write(a_report(), path)
    assert path.read_text() == "old"
    assert [x.name for x in tmp_path.iterdir()] == ["a.html"]


def test_a_folder_that_nothing_can_be_written_to_is_named_by_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path, *_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "write_bytes", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(OSError, match="Read-only") as told:
        page.put(tmp_path / "a.html", b"x")
    assert told.value.filename == str(tmp_path / "a.html")
