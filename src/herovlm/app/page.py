"""The page itself: Gradio's controls around the desk; everything that thinks is elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from herovlm.app import cards
from herovlm.app.desk import Desk
from herovlm.app.examples import Example
from herovlm.app.folder import make_room
from herovlm.errors import HeroError
from herovlm.extras import require

HINT = "Put in a picture or take an example, write a question, and press Ask."
SWEEP = 600  # seconds between two looks for pictures that are too old
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
        theme=gr.themes.Base(primary_hue="orange", neutral_hue="stone", font=FONTS, font_mono=("monospace",)),
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
    limits = desk.limits
    with gr.Blocks(title="herovlm", analytics_enabled=False) as page:
        gr.HTML(cards.head(desk.session.title, study))
        asked = gr.State(False)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                picture = gr.Image(
                    label="Picture", type="filepath", sources=["upload", "clipboard"], height=300, buttons=[]
                )
                with gr.Row(elem_id="examples"):
                    thumbs = [gr.Button(example.name, icon=example.path, size="sm") for example in examples]
                question = gr.Textbox(label="Question", max_length=limits.letters, placeholder="What do you see?")
                ideas = gr.Dataset(show_label=False, components=["textbox"], samples=[[""]], visible=False)
                methods = gr.Dropdown(
                    list(desk.methods),
                    value=["hero"],
                    multiselect=True,
                    max_choices=limits.methods,
                    label=f"Methods, up to {limits.methods}",
                )
                keep = gr.Slider(1, 100, value=20, step=1, label="Keep, in %", info="of the visual positions")
                button = gr.Button("Ask", variant="primary", elem_id="ask")
            with gr.Column(scale=5, min_width=320):
                result = gr.HTML(cards.message(HINT), elem_id="result")
        with gr.Accordion("What the methods do", open=False):
            gr.HTML(cards.methods(about))
        how = {"preprocess": False, "concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
        quick = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
        given = [picture, question, methods, keep]
        gr.on([button.click, question.submit], answering(desk), given, [result, asked], **how)
        again = answering(desk)
        for control in (methods, keep):
            control.change(
                lambda *values: again(*values[:-1]) if values[-1] else (gr.skip(), gr.skip()),
                [*given, asked],
                [result, asked],
                **how,
                trigger_mode="always_last",
            )
        picture.change(lambda: (cards.message(HINT), False), None, [result, asked], **quick)
        picture.upload(lambda: gr.Dataset(visible=False), None, [ideas], **quick)
        for thumb, example in zip(thumbs, examples, strict=True):
            thumb.click(_taking(gr, example), None, [picture, question, ideas], **quick)
        ideas.click(lambda sample: sample[0], [ideas], [question], **quick)
    return page


def answering(desk: Desk) -> Callable[..., tuple[str, bool]]:
    """Make the function behind the button: values as the browser sent them, then HTML and whether it is an answer."""

    def answer(picture: Any, question: Any, methods: Any, percent: Any) -> tuple[str, bool]:
        try:
            path, name = (picture["path"], picture.get("orig_name") or "the picture") if picture else (None, "")
            shown, asked = desk.ask(path, str(name)[:80], str(question or ""), list(methods or ()), float(percent))
            return cards.cards(shown, asked, desk.session.fit), True
        except HeroError as error:
            return cards.message(str(error)), False
        except Exception as error:  # the page outlives a question
            return cards.message(f"this could not be answered: unexpected {type(error).__name__}"), False

    return answer


def _sweeping(folder: Path) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Remove old pictures now and then while the page is served."""

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
