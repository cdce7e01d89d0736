"""The page from end to end: the command in a process, a real browser before it, and the demo model behind it."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from served import Served, served
from tree import need_demo_model

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 300_000  # milliseconds; for a machine that has other things to do
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync"]
ATTACK = """async url => {
  const form = new FormData();
  form.append("files", new Blob(["a lot"]), "a.png");
  await fetch(url + "/gradio_api/upload", {method: "POST", mode: "no-cors", body: form}).catch(() => "");
  return {read: await fetch(url + "/config").then(r => r.text()).catch(() => "failed")};
}"""
FRAME = """url => new Promise(done => {
  const frame = document.createElement("iframe");
  frame.onload = done;
  frame.src = url;
  document.body.append(frame);
})"""
CONTRAST = """() => {
  const pen = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const read = (colour) => {
    pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((x, i) => (x * a + below[i] * (255 - a)) / 255);
  const behind = (e) => {
    if (!e) return [255, 255, 255];
    const colour = read(getComputedStyle(e).backgroundColor);
    return colour[3] === 255 ? colour.slice(0, 3) : over(colour, behind(e.parentElement));
  };
  const light = (rgb) => rgb.map((x) => x / 255).map((x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
    .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
  const poor = [];
  const check = (e, colour, words) => {
    const back = behind(e), pair = [light(over(read(colour), back)), light(back)].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) poor.push(`${words.trim().slice(0, 40)}: ${ratio.toFixed(2)} (${e.tagName} ${e.className})`);
  };
  for (const e of document.body.querySelectorAll("*")) {
    if (!e.checkVisibility({opacityProperty: true, visibilityProperty: true}) || e.closest(":disabled, svg")) continue;
    const own = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data).join(" ");
    if (own.trim() && e.getBoundingClientRect().width > 1) check(e, getComputedStyle(e).color, own);
    if (e.placeholder) check(e, getComputedStyle(e, "::placeholder").color, e.placeholder);
  }
  return poor;
}"""
PICTURE = 'img[data-testid="detailed-image"], [data-testid="image"] img, .image-frame img'


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    need_demo_model()
    pytest.importorskip("gradio", reason="the extra 'app' is not installed", exc_type=ImportError)
    study = tmp_path_factory.mktemp("study") / "study.html"
    study.write_text("<h1>three findings</h1>")
    with served(tmp_path_factory.mktemp("served"), "--study", str(study)) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=PATIENCE)
        yield found
        found.close()


@contextmanager
def opened(browser: Browser, app: Served, **how: Any) -> Iterator[Page]:
    """A user with the page open; nothing that the page asks for may be elsewhere."""
    context = browser.new_context(**how)
    context.set_default_timeout(PATIENCE)
    page, elsewhere = context.new_page(), []
    page.on("request", lambda r: r.url.startswith((app.url, "data:", "blob:")) or elsewhere.append(r.url))
    page.goto(app.url)
    page.locator("#ask").wait_for()
    try:
        yield page
    finally:
        context.close()
    assert elsewhere == []


def take(page: Page, name: str) -> None:
    """Take an example and wait until it is there."""
    page.get_by_role("button", name=name).click()
    page.locator(PICTURE).first.wait_for()
    page.wait_for_function("document.querySelector('textarea, input[type=text]').value.length > 0")


def put_in(page: Page, path: Path) -> None:
    page.locator("input[type=file]").first.set_input_files(path)
    page.locator(PICTURE).first.wait_for()


def card(page: Page, method: str) -> Any:
    return page.locator(f'.hv-card[data-method="{method}"]')


def test_one_user_from_example_to_overlay(browser: Browser, app: Served) -> None:
    with opened(browser, app) as page:
        take(page, "notice board")
        page.locator("#ask").click()
        few, full = card(page, "hero").locator("img").first, card(page, "full").locator("img").first
        few.wait_for()
        before, whole = few.get_attribute("src"), full.get_attribute("src")
        assert "20 % of" in card(page, "hero").inner_text()
        assert before != whole

        slider = page.locator("input[type=range]")
        slider.focus()
        for _ in range(3):
            slider.press("ArrowRight")
        page.wait_for_function("document.querySelector('[data-method=hero]').innerText.includes('23 % of')")
        assert few.get_attribute("src") != before
        assert full.get_attribute("src") == whole

        page.get_by_label("Methods").click()
        page.get_by_role("option", name="random", exact=True).click()
        card(page, "random").wait_for()
        assert page.locator(".hv-card").count() == 3

        page.get_by_role("button", name="What the methods do").click()
        page.get_by_role("link", name="2509.13067").first.wait_for()  # of the paper there is more than one method
        page.get_by_role("link", name="study").click()
        page.get_by_text("three findings").wait_for()


def test_two_users_at_once_get_their_own_answers(browser: Browser, app: Served, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "blue").save(tmp_path / "blue.png")
    Image.new("RGB", (200, 300), "white").save(tmp_path / "white.png")
    asked = {"blue.png": "Is there a blue star?", "white.png": "Is there a <b>red</b> star?"}
    with opened(browser, app) as one, opened(browser, app) as two:
        for page, (name, question) in zip((one, two), asked.items(), strict=True):
            put_in(page, tmp_path / name)
            page.get_by_label("Question").fill(question)
        for page in (one, two):
            page.get_by_label("Question").press("Enter")
        for page, question in zip((one, two), asked.values(), strict=True):
            card(page, "hero").wait_for()
            assert page.locator(".hv-question").inner_text() == question
        shapes = [
            page.evaluate("[...document.querySelectorAll('.hv-card img')].map(i => i.src)") for page in (one, two)
        ]
        assert not {*shapes[0]} & {*shapes[1]}


def test_a_wrong_file_gives_a_message_and_the_page_goes_on(browser: Browser, app: Served, tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (tmp_path / "words.txt").write_text("words")
    with opened(browser, app) as page:
        page.locator("#ask").click()
        page.get_by_text("no question yet").wait_for()
        page.locator("input[type=file]").first.set_input_files(tmp_path / "torn.png")
        page.get_by_label("Question").fill("What is it?")
        page.locator(PICTURE).first.wait_for(state="attached")
        page.locator("#ask").click()
        message = page.locator("[role=alert]", has_text="torn.png")
        message.wait_for()
        assert str(app.folder) not in message.inner_text()
        take(page, "town map")
        page.locator("#ask").click()
        card(page, "hero").wait_for()


def test_the_main_controls_are_reached_and_used_by_keyboard(browser: Browser, app: Served) -> None:
    with opened(browser, app) as page:
        names = []
        for _ in range(40):
            page.keyboard.press("Tab")
            names.append(
                page.evaluate(
                    "(e => e.id || e.ariaLabel || e.innerText || e.type || e.tagName)(document.activeElement)"
                )
            )
            if names[-1] == "town map":
                page.keyboard.press("Enter")
            if names[-1] == "range":
                break
        wanted = ["Drop an image file", "notice board", "town map", "textarea", "ask", "Methods, up to 4", "range"]
        assert [name for name in wanted if not any(name.lower() in seen.lower() for seen in names)] == [], names
        page.locator(PICTURE).first.wait_for()
        page.locator("#ask").focus()
        page.keyboard.press("Enter")
        card(page, "hero").wait_for()


def test_a_late_answer_never_stands_beside_a_new_picture(browser: Browser, app: Served) -> None:
    with opened(browser, app) as page:
        take(page, "notice board")
        page.get_by_label("Question").fill("Is it late?")
        page.locator("#ask").click()
        page.get_by_role("button", name="Stop").and_(page.locator(":enabled")).wait_for()
        take(page, "town map")
        page.wait_for_function("document.querySelector('textarea, input[type=text]').value !== 'Is it late?'")
        page.get_by_text("press Ask").wait_for()
        page.get_by_label("Question").fill("Is it new?")
        page.locator("#ask").click()
        card(page, "hero").wait_for()
        assert page.locator(".hv-question").all_inner_texts() == ["Is it new?"]


def test_an_answer_can_be_stopped(browser: Browser, app: Served) -> None:
    with opened(browser, app) as page:
        take(page, "price list")
        page.get_by_label("Question").fill("Is it stopped?")
        page.locator("#ask").click()
        page.get_by_role("button", name="Stop").click()  # waits until it can be pressed
        page.get_by_text("press Ask").wait_for()
        page.get_by_label("Question").fill("And on?")
        page.locator("#ask").click()
        card(page, "hero").wait_for()
        assert page.locator(".hv-question").all_inner_texts() == ["And on?"]
        page.get_by_role("button", name="Stop").and_(page.locator(":disabled")).wait_for()


def test_without_the_full_model_nothing_is_compared_and_ctrl_c_leaves_nothing(browser: Browser, tmp_path: Path) -> None:
    """Where answers may be so long that all tokens do not fit beside them."""
    with served(tmp_path, "--max-new-tokens", "3900") as narrow, opened(browser, narrow) as page:
        take(page, "notice board")
        page.locator("#ask").click()
        card(page, "hero").locator("img").first.wait_for()
        assert "language model reads" in card(page, "full").inner_text()
        words = page.locator("#result").inner_text()
        assert "nothing to compare with" in words
        assert [word for word in ("untouched", "answer as", "faster", "slower", "smaller") if word in words] == []
        ends_by_ctrl_c(narrow)  # a page that is open does not disturb it


def ends_by_ctrl_c(app: Served) -> None:
    """And nothing is left behind; in a server of one test, for workers take tests in any order."""
    assert [*app.folder.glob("herovlm-app-*")]
    app.process.send_signal(signal.SIGINT)
    assert app.process.wait(PATIENCE / 1000) in (0, 130)
    assert not [*app.folder.glob("herovlm-app-*")]
    assert "Traceback" not in (app.folder / "stderr").read_text()


def test_a_question_that_is_too_long_is_not_cut_silently(browser: Browser, app: Served) -> None:
    with opened(browser, app) as page:
        take(page, "notice board")
        page.get_by_label("Question").fill("why " * 150)
        page.locator("#ask").click()
        page.locator("[role=alert]", has_text="599 letters, more than 500").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read(browser: Browser, app: Served, scheme: str) -> None:
    """The contrast of all text with what is behind it, 4.5 to 1 at least (WCAG 2.2, 1.4.3)."""
    with opened(browser, app, color_scheme=scheme, viewport={"width": 1400, "height": 900}) as page:
        page.get_by_role("button", name="What the methods do").click()
        page.get_by_role("link", name="2509.13067").first.wait_for()
        assert page.evaluate(CONTRAST) == []
        take(page, "notice board")
        page.locator("#ask").click()
        card(page, "hero").locator("img").first.wait_for()
        page.get_by_text("What the numbers mean").click()
        page.get_by_role("button", name="Stop").and_(page.locator(":disabled")).wait_for()
        page.mouse.move(0, 0)
        assert page.evaluate(CONTRAST) == []


@pytest.mark.parametrize("size", [(1400, 900), (390, 844)])
def test_ask_is_above_the_fold_and_the_answer_comes_into_view(
    browser: Browser, app: Served, size: tuple[int, int]
) -> None:
    with opened(browser, app, viewport={"width": size[0], "height": size[1]}) as page:
        take(page, "notice board")
        box = page.locator("#ask").bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < size[1]
        page.locator("#ask").click()
        card(page, "hero").locator("img").first.wait_for()
        page.wait_for_function("document.querySelector('.hv-answer').getBoundingClientRect().bottom < innerHeight")
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_what_has_no_words_has_a_name_and_focus_is_seen(browser: Browser, app: Served) -> None:
    with opened(browser, app) as page:
        page.get_by_title("Remove hero").wait_for()
        for control in ("textarea", "input[type=range]"):
            page.locator(control).first.focus()
            page.keyboard.press("ArrowRight")
            assert page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2


def status(app: Served, path: str, body: object = None, **headers: str) -> int:
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    head = {"Content-Type": "application/json", **headers}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(app.url + path, data, head), timeout=PATIENCE / 1000
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return int(error.code)


def test_no_other_file_can_be_read(app: Served, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    (own,) = app.folder.glob("herovlm-app-*")
    assert status(app, f"/gradio_api/file={own}/examples/town%20map.png") == 200
    for path in ("/etc/passwd", tmp_path / "secret.png", f"{own}/../stderr", f"{own}/%2e%2e/stderr", Path(__file__)):
        assert status(app, f"/gradio_api/file={path}") == 403
    file = {"path": str(tmp_path / "secret.png"), "meta": {"_type": "gradio.FileData"}}
    assert status(app, "/gradio_api/queue/join", {"data": [file, "why?", ["hero"], 20], "fn_index": 0}) == 403
    assert not [path for path in own.rglob("*") if path.is_file() and path.read_bytes() == b"secret"]


def test_what_is_too_large_or_comes_under_another_name_is_refused(app: Served) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert status(app, "/gradio_api/upload", b"x", **form, **{"Content-Length": "20100000"}) == 413
    assert status(app, "/", Host="evil.example") == 400
    assert status(app, "/", Host="LOCALHOST") == 200
    assert status(app, "/monitoring") in (403, 404)
    assert status(app, "/study") == 200


def test_a_request_without_sense_is_refused_and_nothing_else(app: Served) -> None:
    asked = {"data": [], "session_hash": "x"}
    for path, body in (
        ("queue/join", {**asked, "fn_index": 99}),
        ("run/predict", {**asked, "fn_index": 99}),
        ("call/nothing", asked),
        ("component_server", {**asked, "component_id": 99, "fn_name": "x"}),
    ):
        assert status(app, f"/gradio_api/{path}", body) in range(400, 500)
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    nameless = b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\nwords\r\n--x--\r\n'
    assert status(app, "/gradio_api/upload", nameless, **form) == 400
    assert status(app, "/openapi.json") == 404
    assert "Traceback" not in (app.folder / "stderr").read_text()


def test_examples_stay_and_a_picture_that_was_removed_is_asked_for_again(
    browser: Browser, app: Served, tmp_path: Path
) -> None:
    Image.new("RGB", (300, 200), "blue").save(tmp_path / "mine.png")
    with opened(browser, app) as page:
        put_in(page, tmp_path / "mine.png")
        page.get_by_label("Question").fill("Is there a blue star?")
        for path in app.folder.glob("herovlm-app-*/**/*"):
            os.utime(path, (0, 0))
        with opened(browser, app) as other:
            put_in(other, tmp_path / "mine.png")  # makes room
            other.get_by_role("button", name="Clear").click()
        (mine,) = app.folder.glob("herovlm-app-*/*/mine.png")
        mine.unlink()
        page.locator("#ask").click()
        page.locator("[role=alert]", has_text="mine.png was removed after an hour").wait_for()
    with opened(browser, app) as page:
        thumbs = page.locator("#examples img")
        thumbs.last.wait_for()
        assert page.evaluate("[...document.querySelectorAll('#examples img')].every(i => i.naturalWidth > 0)")
        take(page, "price list")
        page.locator("#ask").click()
        card(page, "hero").wait_for()


def test_another_site_can_neither_put_in_nor_read_nor_frame(browser: Browser, app: Served) -> None:
    """A page on another port of this machine, which to Gradio is a friend."""
    site = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{site.server_port}/")
    before = {*app.folder.rglob("*")}
    tried = page.evaluate(ATTACK, app.url)
    assert tried["read"] == "failed"
    assert {*app.folder.rglob("*")} == before
    page.evaluate(FRAME, app.url)  # a frame that is refused is loaded, too: with a page of the browser's own
    assert [frame.url for frame in page.frames if frame.url.startswith(app.url)] == []
    context.close()
    site.shutdown()
    site.server_close()
