"""Cards say what was answered and what it cost, beside the full model; words of users are words, never HTML."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace

import pytest
from grids import make_seen
from PIL import Image
from reports import a_kept, an_answer

from herovlm.app import cards
from herovlm.viz.records import Answer, Asked, Refused

PHOTO = Image.new("RGB", (400, 380), "white")
SEEN = make_seen(2, 2, 4, (1, 0))


def an_asked(text: str = "seven", question: str = "how many?") -> Asked:
    return Asked(question, (an_answer(SEEN, "full", "seven"), an_answer(SEEN, "hero", text)))


def overlays(html: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(code))) for code in found]


def test_every_answer_has_a_card_with_its_words_and_costs() -> None:
    html = cards.cards(PHOTO, an_asked("eight"), "squeeze")
    for word in ("seven", "eight", "how many?", "123 ms", "45.6 ms", "2.86 MiB", "684 KiB", "2.7 x faster"):
        assert word in html
    assert html.count("<article") == len(overlays(html)) == 2
    assert html.count('alt="The picture, ') == 2


@pytest.mark.parametrize(("text", "word"), [("seven", "the same answer"), ("eight", "another answer")])
def test_an_answer_is_compared_with_that_of_the_full_model(text: str, word: str) -> None:
    html = cards.cards(PHOTO, an_asked(text), "squeeze")
    assert re.findall("the same answer|another answer", html) == [word]


def test_the_overlay_of_the_full_model_is_lit_and_that_of_a_method_is_dark_where_it_dropped() -> None:
    full, few = overlays(cards.cards(PHOTO, an_asked(), "squeeze"))
    kept, cell = a_kept(SEEN), full.height // 8
    light = [image.convert("L").getpixel((int(2.5 * cell), int(2.5 * cell))) for image in (full, few)]
    assert not kept.mask[1, 2 * 4 + 2]
    assert light[0] > 200
    assert light[1] < 100


def test_words_are_never_html() -> None:
    trick = "<img src=x onerror=alert(1)>${1+1}{{1+1}}"
    asked = replace(an_asked(trick, trick), refused=(Refused("pool", 0.2, trick),))
    for html in (cards.cards(PHOTO, asked, "squeeze"), cards.message(trick), cards.methods([(trick,) * 3])):
        assert "<img src=x" not in html
        assert "&lt;img src=x" in html


def test_who_could_not_answer_has_a_card_that_says_why() -> None:
    html = cards.cards(PHOTO, replace(an_asked(), refused=(Refused("pool", 0.2, "too few"),)), "squeeze")
    assert html.count("<article") == 3
    assert "too few" in html


def test_costs_tell_a_gain_only_where_there_is_one() -> None:
    full = an_answer(SEEN, "full", "seven")
    slow: Answer = replace(an_answer(SEEN, "hero", "seven"), prefill=full.prefill * 2, cache=full.cache, vision=0.5)
    assert {gain for _, _, gain in cards.costs(full, full) + cards.costs(slow, full)} == {""}
    assert ("vision tower", "500 ms", "") in cards.costs(slow, full)


def test_papers_are_links_and_baselines_are_not() -> None:
    html = cards.methods([("hero", "it keeps", "2509.13067"), ("pool", "it averages", "baseline")])
    assert re.findall('href="([^"]+)"', html) == ["https://arxiv.org/abs/2509.13067"]
    assert ">baseline<" in html


def test_the_study_is_linked_where_there_is_one() -> None:
    assert 'href="study"' in cards.head("a model", True)
    assert 'href="study"' not in cards.head("a model", False)
