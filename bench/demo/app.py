"""The demo as a Gradio app: what is clicked and typed changes a `Conversation`, and every change is answered at once.

Import this module only where Gradio is wanted; `bench.demo.loading` and `bench.demo.conversation` work without it.
"""

from __future__ import annotations

import os

# Before the import: Gradio reports home otherwise.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from pathlib import Path
from typing import Any

import gradio as gr

from bench.contracts import Catalogue
from bench.demo.conversation import Conversation, Desk
from bench.demo.shown import answers_html, chips_html, head_html
from bench.errors import InputError

STYLE = Path(__file__).with_name("demo.css")
SYSTEM_FONTS = ("ui-sans-serif", "system-ui", "sans-serif")
SUGGESTED = ("something funny", "but not romantic", "a slow-burning mystery", "no violence please")
NEED_HISTORY = "Add at least one title that you know: recommenders start from a history."
NEED_WORDS = "This is what the history alone gives. Now say what you want, or what you do not want."
MOST_LETTERS = 400
# One listener for all buttons of a component, so that none goes stale when its content changes.
CHIP_CLICKED = """element.addEventListener('click', (event) => {
  const chip = event.target.closest('button[data-value]');
  if (chip) trigger('click', {value: chip.dataset.value});
});"""


def build_app(desk: Desk, about: str) -> gr.Blocks:
    """The page.

    Args:
        desk: catalogue and recommenders.
        about: one line under the title: which data, which models.
    """

    def everything(talk: Conversation) -> tuple[Conversation, str, str, str]:
        return talk, _history(desk.catalogue, talk), _parts(talk), _answers(desk, talk)

    def found(text: str, talk: Conversation) -> str:
        titles = desk.catalogue.titles
        return chips_html("found", [(item, titles[item]) for item in desk.search(text, talk.history)])

    def add_item(talk: Conversation, event: gr.EventData) -> tuple[object, ...]:
        return (*everything(talk.seen(_item(event, desk))), "", chips_html("found", []))

    def remove_item(talk: Conversation, event: gr.EventData) -> tuple[object, ...]:
        return everything(talk.unseen(_item(event, desk)))

    def say(text: str, talk: Conversation) -> tuple[object, ...]:
        return (*everything(talk.said(text[:MOST_LETTERS])), "")

    def click_part(talk: Conversation, event: gr.EventData) -> tuple[object, ...]:
        text = str(event.value)[:MOST_LETTERS]
        return everything(talk.taken_back(text) if text in talk.parts else talk.said(text))

    with gr.Blocks(title="promptrec-bench demo", analytics_enabled=False, fill_width=True) as app:
        talk = gr.State(Conversation())
        gr.HTML(head_html(about))
        with gr.Row(elem_classes="inputs"):
            with gr.Column():
                search = gr.Textbox(
                    label="Your history", placeholder="Search the catalogue, then click", elem_id="search"
                )
                results = gr.HTML(chips_html("found", []), elem_id="found", js_on_load=CHIP_CLICKED)
                history = gr.HTML(_history(desk.catalogue, Conversation()), elem_id="history", js_on_load=CHIP_CLICKED)
            with gr.Column():
                hint = "In your own words, then Enter"
                words = gr.Textbox(label="Your request", placeholder=hint, elem_id="words", max_length=MOST_LETTERS)
                parts = gr.HTML(_parts(Conversation()), elem_id="parts", js_on_load=CHIP_CLICKED)
        answers = gr.HTML(_answers(desk, Conversation()), elem_id="answers", js_on_load=None)

        page = [talk, history, parts, answers]
        # One request after another: recommenders are no place for several threads, and times would mean nothing.
        quiet: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": 1, "concurrency_id": "desk"}
        # Not `input`, which comes of single keys alone: text that is pasted or cleared at once would find nothing.
        search.change(found, [search, talk], results, show_progress="hidden", trigger_mode="always_last")
        results.click(add_item, talk, [*page, search, results], **quiet)
        history.click(remove_item, talk, page, **quiet)
        words.submit(say, [words, talk], [*page, words], **quiet)
        parts.click(click_part, talk, page, **quiet)
    return app


def serve(desk: Desk, about: str, host: str, port: int | None) -> tuple[gr.Blocks, str]:
    """Start the app and come back; it runs until it is closed or the process ends.

    Args:
        desk: catalogue and recommenders.
        about: one line under the title.
        host: address to listen on; anything but a loopback address lets others in.
        port: None takes the first free one from 7860 on.

    Returns:
        The app and its address.

    Raises:
        InputError: the address cannot be listened on.
    """
    app = build_app(desk, about)
    theme = gr.themes.Base(font=SYSTEM_FONTS, font_mono=("ui-monospace", "monospace"))
    try:
        _, url, _ = app.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            inbrowser=False,
            prevent_thread_lock=True,
            footer_links=[],
            ssr_mode=False,
            enable_monitoring=False,
            theme=theme,
            css_paths=STYLE,
        )
    except OSError as error:
        raise InputError(
            f"{host}:{port or 7860} cannot be listened on: {error} Give another --host or --port."
        ) from None
    return app, url


def _item(event: gr.EventData, desk: Desk) -> int:
    """The item of a clicked button; a number that the browser made up is refused."""
    item = int(event.value)
    if not 0 <= item < len(desk.catalogue):
        raise gr.Error("There is no such item.")
    return item


def _history(catalogue: Catalogue, talk: Conversation) -> str:
    chips = [(item, catalogue.titles[item]) for item in talk.history]
    return chips_html("held", chips, removes=True, empty="No history yet.")


def _parts(talk: Conversation) -> str:
    if talk.parts:
        return chips_html("held", [(text, text) for text in talk.parts], removes=True)
    return chips_html("suggested", [(text, text) for text in SUGGESTED])


def _answers(desk: Desk, talk: Conversation) -> str:
    if not talk.history:
        return answers_html(desk, talk, (), NEED_HISTORY)
    try:
        answers = desk.answer(talk)
    except InputError as error:
        raise gr.Error(str(error)) from error
    return answers_html(desk, talk, answers, "" if talk.parts else NEED_WORDS)
