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
    for word in ("seven", "eight", "how many?", "173 ms", "273 ms", "50 + 10 + 46 ms", "2.86 MiB", "684 KiB"):
        assert word in html
    assert html.count("<article") == 2
    assert len(overlays(html)) == 4
    assert html.count('alt="The picture with ') == 2


@pytest.mark.parametrize(("text", "word"), [("seven", "same answer"), ("eight", "other answer")])
def test_an_answer_is_compared_with_that_of_the_full_model(text: str, word: str) -> None:
    html = cards.cards(PHOTO, an_asked(text), "squeeze")
    assert re.findall("same answer|other answer", html) == [word]


def test_the_overlay_of_the_full_model_is_lit_and_that_of_a_method_is_dark_where_it_dropped() -> None:
    full, _, few, _ = overlays(cards.cards(PHOTO, an_asked(), "squeeze"))
    kept, cell = a_kept(SEEN), full.width // 8
    strip = (full.height - 8 * cell) // 2  # above each row of tiles
    light = [image.convert("L").getpixel((int(2.5 * cell), strip + int(2.5 * cell))) for image in (full, few)]
    assert not kept.mask[1, 2 * 4 + 2]
    assert light[0] > 200
    assert light[1] < 100


def test_without_the_full_model_nobody_is_the_yardstick() -> None:
    """Where the context is too long for all tokens, the first answer is that of a method like the others."""
    both = (an_answer(SEEN, "hero", "seven"), replace(an_answer(SEEN, "random", "eight"), prefill=9.0))
    html = cards.cards(PHOTO, Asked("how many?", both, refused=(Refused("full", 1.0, "too long"),)), "squeeze")
    for word in ("untouched", "same answer", "other answer", "faster", "slower", "smaller"):
        assert word not in html
    assert "nothing to compare with" in html
    assert html.index("too long") < html.index('data-method="hero"')


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


def test_a_loss_is_told_as_plainly_as_a_gain() -> None:
    full = an_answer(SEEN, "full", "seven")
    few = an_answer(SEEN, "hero", "seven")
    slow: Answer = replace(few, vision=0.5, writing=0.0, cache=2 * full.cache)
    told = {name: (mark, times) for name, _, mark, times in cards.costs(slow, full)}
    assert told["first token"] == ("loss", "3.2 x slower")
    assert told["whole answer"] == ("loss", "2.0 x slower")
    assert told["memory (KV cache)"] == ("loss", "2.0 x larger")
    told = {name: (mark, times) for name, _, mark, times in cards.costs(few, full)}
    assert told["first token"] == ("gain", "1.6 x faster")
    assert told["memory (KV cache)"] == ("gain", "4.3 x smaller")
    assert {mark for _, _, mark, _ in cards.costs(full, full)} == {""}


def test_what_takes_longer_to_see_is_no_gain() -> None:
    """Prefill alone would be 2.7 times faster here."""
    full = an_answer(SEEN, "full", "seven")
    few = replace(an_answer(SEEN, "hero", "seven"), vision=full.vision + full.prefill)
    assert "faster" not in str(cards.costs(few, full))


def test_a_long_answer_does_not_fill_its_card() -> None:
    html = cards.cards(PHOTO, an_asked("0 0 " * 200), "squeeze")
    assert html.count("hv-long") == 1
    assert 'tabindex="0"' in html


def test_the_page_says_what_its_model_can_read() -> None:
    assert "reads only drawn boards" in cards.head("drawn boards")
    assert "reads only" not in cards.head(None)
    assert "a guess" in cards.cards(PHOTO, an_asked(), "squeeze", "It is a guess.")


def test_papers_are_links_and_baselines_are_not() -> None:
    html = cards.methods([("hero", "it keeps", "2509.13067"), ("pool", "it averages", "baseline")])
    assert re.findall('href="([^"]+)"', html) == ["https://arxiv.org/abs/2509.13067"]
    assert ">baseline<" in html


def test_the_study_is_linked_where_there_is_one() -> None:
    assert 'href="study"' in cards.foot("a model", True)
    assert 'href="study"' not in cards.foot("a model", False)


def test_windows_without_an_overview_are_one_picture() -> None:
    seen = make_seen(2, 3, 4, (0, 0), ((4, 2), (4, 4, 1)), False, False)
    html = cards.cards(PHOTO, Asked("how many?", (an_answer(seen, "hero", "seven"),)), "squeeze")
    assert len(overlays(html)) == 1
    assert f"of {6 * 9}" in html
