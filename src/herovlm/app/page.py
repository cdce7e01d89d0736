"""The page itself: Gradio's controls around the desk; everything that thinks is elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from herovlm.app import cards
from herovlm.app.desk import Desk, StoppedError
from herovlm.app.examples import Example
from herovlm.app.folder import EXAMPLES, make_room
from herovlm.errors import HeroError
from herovlm.extras import require

HINT = "Put in a picture or take an example, write a question, and press Ask."
SWEEP = 600  # seconds between two looks for pictures that are too old
QUICK: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
SLOW: dict[str, Any] = {
    "preprocess": False,
    "concurrency_id": "model",
    "concurrency_limit": 1,
    "api_visibility": "private",
}
COLOURS = {  # that can be read: 4.5 to 1 at least
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_dark": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_hover_dark": "*primary_800",
    "input_placeholder_color": "*neutral_600",
    "input_placeholder_color_dark": "*neutral_300",
    "block_info_text_color": "*neutral_600",
    "block_info_text_color_dark": "*neutral_300",
    "block_title_text_color": "*neutral_700",
    "block_title_text_color_dark": "*neutral_200",
    **{f"link_text_color{state}": "*primary_700" for state in ("", "_hover", "_visited", "_active")},
    **{f"link_text_color{state}_dark": "*primary_300" for state in ("", "_hover", "_visited", "_active")},
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_300",
}
FONTS = ("system-ui", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")  # of the system: none is fetched


def application(
    desk: Desk, examples: Sequence[Example], about: Sequence[tuple[str, str, str]], study: Path | None, folder: Path
) -> Any:
    """Make the web application (ASGI).

    Args:
        desk: who answers.
        examples: pictures to begin with.
        about: what stands in the list of methods: name, what it does, paper.
        study: a page to link to, served as /study.
        folder: where users' pictures lie.
    """
    gr, fastapi = require("gradio", extra="app"), require("fastapi", extra="app")
    page = blocks(desk, examples, about, study is not None)
    page.queue(max_size=desk.limits.waiting, default_concurrency_limit=1, api_open=False)
    web = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=_sweeping(folder))
    if study is not None:
        responses = require("fastapi.responses", extra="app")
        web.get("/study")(lambda: responses.FileResponse(study, media_type="text/html"))
    gr.mount_gradio_app(
        web,
        page,
        "/",
        theme=gr.themes.Base(primary_hue="orange", neutral_hue="stone", font=FONTS, font_mono=("monospace",)).set(
            **COLOURS
        ),
        js=(Path(__file__).parent / "app.js").read_text(),
        css_paths=[Path(__file__).parent / "app.css"],
        max_file_size=desk.limits.bytes,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        ssr_mode=False,
        show_error=False,
    )
    page.has_launched = True  # or Gradio would not check the paths in a request
    return web


def blocks(desk: Desk, examples: Sequence[Example], about: Sequence[tuple[str, str, str]], study: bool) -> Any:
    """Lay out the controls and wire them."""
    gr: Any = require("gradio", extra="app")
    with gr.Blocks(title="herovlm", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(cards.head(desk.session.reads))
        asked = gr.State(False)
        with gr.Row(elem_id="desk"):
            with gr.Column(elem_id="asking"):
                picture = gr.Image(
                    label="Picture",
                    type="filepath",
                    sources=["upload", "clipboard"],
                    height=200,
                    buttons=[],
                    elem_id="picture",
                )
                with gr.Row(elem_id="examples"):
                    thumbs = [gr.Button(example.name, icon=example.path, size="sm") for example in examples]
                question = gr.Textbox(label="Question", placeholder="What do you see?")
                with gr.Row():
                    ask = gr.Button("Ask", variant="primary", elem_id="ask")
                    stop = gr.Button("Stop", elem_id="stop", interactive=False)
                ideas = gr.Dataset(
                    show_label=False, components=["textbox"], samples=[[""]], visible=False, elem_id="ideas"
                )
            with gr.Column(elem_id="answers"):
                result = gr.HTML(cards.message(HINT), elem_id="result")
            with gr.Column(elem_id="settings"):
                methods, keep = _settings(gr, desk)
        with gr.Accordion("What the methods do", open=False):
            gr.HTML(cards.methods(about))
        gr.HTML(cards.foot(desk.session.title, study))
        given, shown = [picture, question, methods, keep, asked], [result, asked]
        running = [
            _asking([ask.click, question.submit], answering(desk), given, shown, stop),
            *(
                _asking([control.change], answering(desk, again=True), given, shown, stop, trigger_mode="always_last")
                for control in (methods, keep)
            ),
        ]
        leave = _leaving(desk)
        picture.change(leave, None, [*shown, stop], cancels=running, **QUICK)
        stop.click(leave, None, [*shown, stop], cancels=running, **QUICK)
        page.unload(_leaving(desk, gone=True))
        picture.upload(lambda: gr.Dataset(visible=False), None, [ideas], **QUICK)
        for thumb, example in zip(thumbs, examples, strict=True):
            thumb.click(_taking(gr, example), None, [picture, question, ideas], **QUICK)
        ideas.click(lambda sample: sample[0], [ideas], [question], **QUICK)
    return page


def _settings(gr: Any, desk: Desk) -> tuple[Any, Any]:
    """Lay out what else can be chosen: methods, and how much they keep."""
    methods = gr.Dropdown(
        list(desk.methods),
        value=list(desk.methods[:1]),
        multiselect=True,
        max_choices=desk.limits.methods,
        label=f"Methods, up to {desk.limits.methods}",
        elem_id="methods",
    )
    return methods, gr.Slider(1, 100, value=20, step=1, label="Keep, in %", info="of the visual tokens")


def _asking(triggers: Sequence[Any], answer: Any, given: Any, shown: Any, stop: Any, **how: Any) -> Any:
    """Wire what asks: while it runs, it can be stopped."""
    gr: Any = require("gradio", extra="app")
    gr.on(triggers, lambda: gr.Button(interactive=True), None, [stop], **QUICK)
    event = gr.on(triggers, answer, given, shown, **SLOW, **how)
    event.then(lambda: gr.Button(interactive=False), None, [stop], **QUICK)
    return event


def answering(desk: Desk, again: bool = False) -> Callable[..., tuple[Any, Any]]:
    """Make the function that asks: values as the browser sent them, then HTML and whether it is an answer.

    `again`: only where an answer is shown already.
    """
    gr: Any = require("gradio", extra="app")

    def answer(picture: Any, question: Any, methods: Any, percent: Any, asked: Any, request: Any) -> tuple[Any, Any]:
        if again and not asked:
            return gr.skip(), gr.skip()
        try:
            path, name = (picture["path"], picture.get("orig_name") or "the picture") if picture else (None, "")
            words = (path, str(name)[:80], str(question or ""), list(methods or ()), float(percent))
            image, found = desk.ask(*words, request.session_hash)
            return cards.cards(image, found, desk.session.fit, _note(desk, path)), True
        except StoppedError:
            return gr.skip(), gr.skip()
        except HeroError as error:
            return cards.message(str(error)), False
        except Exception as error:  # the page outlives a question
            return cards.message(f"this could not be answered: unexpected {type(error).__name__}"), False

    answer.__annotations__["request"] = gr.Request  # Gradio looks here for who wants to know who asks
    return answer


def _leaving(desk: Desk, gone: bool = False) -> Callable[..., Any]:
    """Make the function that ends what its user waits for, and clears the table unless the user is `gone`."""
    gr: Any = require("gradio", extra="app")

    def leave(request: Any) -> Any:
        desk.stop(request.session_hash)
        return None if gone else (cards.message(HINT), False, gr.Button(interactive=False))

    leave.__annotations__["request"] = gr.Request
    return leave


def _note(desk: Desk, path: str | None) -> str:
    """Return what an answer about a user's own picture is worth, where the model can read little."""
    reads = desk.session.reads
    if reads is None or path is None or Path(path).parent.name == EXAMPLES:
        return ""
    return f"This demo model reads only {reads}. If your picture is anything else, the answers below are guesses."


def _sweeping(folder: Path) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Remove old pictures now and then while the page is served.

    Gradio's own `delete_cache` knows nothing of uploads that broke off, and would remove the examples.
    """

    async def sweep() -> None:
        while True:
            await asyncio.sleep(SWEEP)
            await asyncio.to_thread(make_room, folder)

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        task = asyncio.create_task(sweep())
        try:
            yield
        finally:
            task.cancel()

    return lifespan


def _taking(gr: Any, example: Example) -> Callable[[], tuple[str, str, Any]]:
    samples = [[question] for question in example.questions]
    return lambda: (example.path, example.questions[0], gr.Dataset(samples=samples, visible=True))
