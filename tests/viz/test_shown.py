"""herovlm.show: one call for notebooks, pages and papers, and mistakes that are told."""

from __future__ import annotations

import dataclasses
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from grids import make_seen
from PIL import Image
from reports import a_kept

import herovlm
from herovlm import InputsError, MissingExtraError, PictureError, UsageError
from herovlm.types import Kept, Short
from herovlm.viz.figure import KEPT, PICTURE

IMAGE = Image.new("RGB", (40, 30), "red")


def a_short(step: int = 5, pictures: int = 1) -> Short:
    seen = make_seen(2, 2, 4, (1, 0))
    return Short({}, (seen,) * pictures, (a_kept(seen, step),) * pictures)


def tags(html: str) -> list[tuple[str, dict[str, str | None]]]:
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: found.append((tag, dict(attrs)))
    parser.feed(html)
    return found


def values(html: str, name: str) -> list[str | None]:
    return [x["value"] for tag, x in tags(html) if tag == "input" and x["name"] == name]


def test_a_notebook_gets_a_piece_that_touches_nothing_around_it() -> None:
    html = herovlm.show(a_short(), IMAGE)._repr_html_()
    assert not re.search("<(html|head|body|script|link)", html)
    styles = re.sub(r"/\*.*?\*/", "", html.split("<style>")[1].split("</style>")[0], flags=re.DOTALL)
    rules = [rule.strip() for rule in re.findall(r"([^{}]+)\{", styles)]
    for rule in rules:
        assert rule.startswith(("@media", "@supports")) or all(
            part.strip().startswith(".herovlm") for part in re.split(r",(?![^(]*\))", rule)
        ), rule
    assert "//" not in re.sub(r"data:image/\w+;base64,[\w+/=]+", "", html)


def test_the_same_thing_is_the_same_html() -> None:
    assert herovlm.show(a_short(), IMAGE)._repr_html_() == herovlm.show(a_short(), IMAGE)._repr_html_()
    assert repr(herovlm.show(a_short(), IMAGE)).startswith("<the method keeps ")


def test_a_smaller_picture_is_told() -> None:
    whole, words = a_short(), "the model saw a smaller picture than this"
    small = dataclasses.replace(whole, seen=(dataclasses.replace(whole.seen[0], resized=900),))
    shown = herovlm.show(small, IMAGE)
    assert re.search("makes the picture smaller and sends .* of 900 visual positions", repr(shown))
    assert words in shown._repr_html_()
    assert words not in herovlm.show(whole, IMAGE)._repr_html_()
    pytest.importorskip("matplotlib")
    written = [text.get_text() for text in shown.figure().findobj(lambda part: hasattr(part, "get_text"))]
    assert any("of 900 positions, smaller picture" in text for text in written)


def test_one_short_has_a_switch_of_views_alone() -> None:
    html = herovlm.show(a_short(), IMAGE)._repr_html_()
    assert {x["name"] for tag, x in tags(html) if tag == "input"} == {"view"}
    assert len(values(html, "view")) == 4  # kept patches, picture, weight, score


def test_several_are_compared_by_name() -> None:
    html = herovlm.show({"hero": a_short(), "random": a_short(4)}, IMAGE)._repr_html_()
    assert values(html, "method") == ["all", "0", "1"]
    assert values(html, "keep") == []
    assert len(values(herovlm.show([a_short(), a_short(4)], IMAGE)._repr_html_(), "method")) == 3


def test_methods_and_keeps_have_a_switch_each() -> None:
    named = {
        (m, k): a_short(n + 2) for n, (m, k) in enumerate((m, k) for m in ("hero", "random") for k in (0.2, 0.1, 0.05))
    }
    seen = make_seen(2, 2, 4, (1, 0))
    named["full", 1.0] = Short({}, (seen,), (Kept(seen.valid, seen.grid.sent),))
    html = herovlm.show({n: s for n, s in named.items() if n != ("hero", 0.2)}, IMAGE)._repr_html_()
    assert values(html, "method") == ["all", "0", "1", "2"]
    assert values(html, "keep") == ["all", "0", "1", "2"]  # the full model looks the same at every keep
    assert [x["class"] for tag, x in tags(html) if tag == "figure"][-1].count("keep-all") == 1


def test_several_pictures_have_a_switch_and_are_stored_once() -> None:
    html = herovlm.show({"a": a_short(5, 2), "b": a_short(4, 2)}, [IMAGE, IMAGE.rotate(180)])._repr_html_()
    assert values(html, "picture") == ["all", "0", "1"]
    assert html.count("<symbol") == 2


@pytest.mark.parametrize("ending", ["html", "png", "svg", "pdf"])
def test_it_saves_what_the_ending_says(ending: str, tmp_path: Path) -> None:
    starts = {"html": b"<!doctype html>", "png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    shown = herovlm.show(a_short(), IMAGE)
    path = shown.save(tmp_path / f"a.{ending}", width=3.0, views=("score", KEPT))
    again = shown.save(str(tmp_path / f"b.{ending}"), width=3.0, views=("score", KEPT))
    assert path.read_bytes().startswith(starts[ending])
    assert path.read_bytes().replace(b"<title>a", b"<title>b") == again.read_bytes()
    assert len([*tmp_path.iterdir()]) == 2


def test_a_figure_is_as_wide_as_asked_and_its_patches_are_square_and_alike() -> None:
    shown = herovlm.show({"hero": a_short(), "random": a_short(4)}, IMAGE)
    for width, views in ((3.3, KEPT), (7.0, (KEPT, PICTURE, "score"))):
        drawn = shown.figure(width=width, views=views)
        assert drawn.get_figwidth() == width
        panels = [x for x in drawn.axes if x.get_xlim()[1] in (4, 8)]
        assert len(panels) == 2 * 2 * (1 if views == KEPT else 3)
        sizes = {}
        for axes in panels:
            left, bottom, wide, high = axes.get_position().bounds
            assert min(left, bottom) >= -1e-9
            assert max(left + wide, bottom + high) <= 1 + 1e-9
            sizes[round(wide * width / axes.get_xlim()[1], 6)] = round(
                high * drawn.get_figheight() / axes.get_ylim()[0], 6
            )
        assert len(sizes) == 1
        assert all(across == pytest.approx(down, abs=1e-5) for across, down in sizes.items())


def test_overlays_of_a_figure_are_vectors(tmp_path: Path) -> None:
    svg = herovlm.show(a_short(), IMAGE).save(tmp_path / "a.svg").read_text("utf-8")
    assert svg.count("<image") == 2  # the picture on the canvas and on the thumbnail
    assert ">1<" in svg or "<text" in svg


def test_one_tile_is_cropped_unless_told() -> None:
    seen = make_seen(0, 0, 4, newlines=False)
    short = Short({}, (seen,), (a_kept(seen),))
    boxes = {
        fit: herovlm.show(short, IMAGE, fit=fit).plates[0].figure.thumbnail.picture for fit in (None, "crop", "pad")
    }
    assert boxes[None] == boxes["crop"]
    assert boxes["crop"].x < 0 < boxes["pad"].y
    assert herovlm.show(a_short(), IMAGE).plates[0].figure.thumbnail.picture.width == 4


def test_a_file_that_is_stored_turned_may_have_been_seen_either_way(tmp_path: Path) -> None:
    """`Image.open` hands it on as it is stored, our reader turns it: only its owner knows which the model saw."""
    short, path = a_short(), tmp_path / "turned.jpg"
    picture = Image.new("RGB", (40, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(path, exif=exif)
    with pytest.raises(InputsError, match="stored turned"):
        herovlm.show(short, path)
    for way in (Image.open(path), herovlm.pictures.open_picture(path)):
        herovlm.show(short, way)
    exif[0x0112] = 1
    picture.save(path, exif=exif)
    herovlm.show(short, path)


def test_a_picture_may_be_a_file(tmp_path: Path) -> None:
    IMAGE.save(tmp_path / "red.png")
    shown = herovlm.show(a_short(), tmp_path / "red.png")
    assert shown.pictures[0][0] == "red.png"
    assert shown.pictures[0][1].tobytes() == IMAGE.tobytes()
    with pytest.raises(PictureError, match="no file"):
        herovlm.show(a_short(), tmp_path / "none.png")


@pytest.mark.parametrize("size", [(30, 40), (40, 40)])
def test_another_picture_is_refused(size: tuple[int, int]) -> None:
    seen = make_seen(2, 2, 8, (2, 0))  # a picture of 4 x 3
    with pytest.raises(InputsError, match="went into the processor"):
        herovlm.show(Short({}, (seen,), (a_kept(seen),)), Image.new("RGB", size))


@pytest.mark.parametrize(
    ("short", "image", "fit", "says"),
    [
        (a_short(), [IMAGE, IMAGE], None, "2 pictures to show, but the prompt has 1"),
        (a_short(), IMAGE, "stretch", "'squeeze', 'pad' or 'crop'"),
        ({}, IMAGE, None, "herovlm.drop returned"),
        ("hero", IMAGE, None, "herovlm.drop returned"),
        ({5: a_short()}, IMAGE, None, "herovlm.drop returned"),
        (a_short(), torch.zeros(3, 8, 8), None, "Tensor is no picture"),
        (a_short(), 5, None, "int is no picture"),
        (a_short(), IMAGE, torch.zeros(2), "'squeeze', 'pad' or 'crop'"),
        ({"hero": {"input_ids": 1}}, IMAGE, None, "herovlm.drop returned"),
    ],
)
def test_mistakes_are_told(short: object, image: object, fit: object, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        herovlm.show(short, image, fit=fit)


def test_wrong_endings_views_and_widths_are_told(tmp_path: Path) -> None:
    shown = herovlm.show(a_short(), IMAGE)
    with pytest.raises(UsageError, match=r"\.html, \.png, \.svg or \.pdf"):
        shown.save(tmp_path / "a.gif")
    with pytest.raises(UsageError, match="kept patches, picture, weight, score"):
        shown.figure(views=("saliency",))
    with pytest.raises(UsageError, match="width in inches"):
        shown.figure(width=0)
    assert [*tmp_path.iterdir()] == []


def test_html_needs_no_extra_and_a_figure_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    shown = herovlm.show(a_short(), IMAGE)
    shown.save(tmp_path / "a.html")
    with pytest.raises(MissingExtraError, match="extra 'viz': pip install"):
        shown.save(tmp_path / "a.png")
    assert [x.name for x in tmp_path.iterdir()] == ["a.html"]


def large(methods: int = 4, keeps: int = 4, side: int = 24) -> herovlm.viz.show.Shown:
    """Two real-size pictures, every method at every keep, seven scores, noise everywhere: the worst case."""
    seen = make_seen(2, 2, side, (side // 6, 0), needs=herovlm.Needs())
    g = torch.Generator().manual_seed(0)
    soft = torch.rand(3, 60, 80, generator=g)
    photo = torch.nn.functional.interpolate(soft[None], scale_factor=20, mode="bicubic")[0].clamp(0, 1)
    image = Image.fromarray((255 * photo).byte().permute(1, 2, 0).numpy())  # 1600 x 1200
    image = image.crop((0, 0, 1600, 1340))
    tiles, patches = seen.valid.shape
    named = {}
    for m in range(methods):
        for k in range(keeps):
            why = {f"tiles {i}": torch.rand(tiles, generator=g) for i in range(4)}
            why |= {f"patches {i}": torch.rand(tiles, patches, generator=g) for i in range(3)}
            mask = (torch.rand(tiles, patches, generator=g) < 0.4 / (k + 1)) & seen.valid
            kept = Kept(mask, seen.grid.sent, why=why)
            named[f"method {m}", 0.4 / (k + 1)] = Short({}, (seen, seen), (kept, kept))
    return herovlm.show(named, [image, image])


def test_a_page_of_many_views_stays_small_and_light() -> None:
    html = large()._repr_html_()
    assert len(html) < 5_000_000
    views = html.count('role="img"')
    assert views == 4 * 4 * 2 * 9
    assert len(tags(html)) < 60 * views  # no element a patch
    small, real = (large(1, 1, side)._repr_html_() for side in (12, 24))
    ends = [html.count('class="newline"') for html in (small, real)]
    assert len(tags(real)) - ends[1] == len(tags(small)) - ends[0]
