"""The demo: how requests compose, what is refused, and a person's way through the page in a real browser."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from bench.cards import ModelCard, Settings
from bench.cli import main as cli
from bench.contracts import Ranking, Requests
from bench.demo.conversation import Conversation, Desk, compose
from bench.demo.loading import DEFAULT_MODELS, open_desk
from bench.demo.shown import answers_html, moved
from bench.errors import InputError
from bench.progress import SilentProgress
from bench.ranking import top_k
from tests.conftest import small_dataset
from tests.tools.browsing import Visit, becomes, expecting, visiting, why_no_browser


class Plain:
    """Likes items in their order, the first best; hears nothing."""

    card: ClassVar[ModelCard] = ModelCard(name="plain", summary="In order.", information="none")
    Settings: ClassVar[type[Settings]] = Settings

    def __init__(self, items: int = 40) -> None:
        self.items, self.asked = items, []

    def score(self, requests: Requests) -> np.ndarray:
        return np.repeat(-np.arange(self.items, dtype=np.float32)[None], len(requests), axis=0)

    def rank(self, requests: Requests, k: int) -> Ranking:
        self.asked.append(requests)
        return top_k(self.score(requests), requests.history, k, self.extras(requests))

    def extras(self, requests: Requests) -> dict[str, Any]:
        return {}


class Steered(Plain):
    """ "+n" lifts item n by 100, "-n" bars it."""

    card: ClassVar[ModelCard] = ModelCard(name="steered", summary="<b>Steered</b>.", information="prompt")

    def score(self, requests: Requests) -> np.ndarray:
        scores = super().score(requests)
        for row, prompt in enumerate(requests.prompts or ()):
            scores[row, int(prompt[1:])] += 100 if prompt[0] == "+" else -np.inf
        return scores

    def extras(self, requests: Requests) -> dict[str, Any]:
        if requests.prompts is None:
            return {}
        sides = [1 if prompt[0] == "+" else -1 for prompt in requests.prompts]
        return {"polarity": np.array(sides, np.int8), "confidence": np.full(len(sides), 0.9, np.float32)}


@pytest.fixture
def desk() -> Desk:
    return Desk(small_dataset(), {"plain": Plain(), "steered": Steered()})


def test_parts_add_what_each_alone_would_change() -> None:
    rng = np.random.default_rng(0)
    plain, steered = rng.normal(size=30).astype(np.float32), rng.normal(size=(3, 30)).astype(np.float32)
    np.testing.assert_allclose(compose(plain, steered), plain + (steered - plain).sum(0), rtol=1e-5)
    # Naive Bayes: p(v | h) prod p(v | h, p_i) / p(v | h), up to a constant.
    chances = np.exp(plain) * np.prod(np.exp(steered) / np.exp(plain), axis=0)
    assert (np.argsort(-chances) == np.argsort(-compose(plain, steered))).all()
    steered[1, 4] = -np.inf
    assert compose(plain, steered)[4] == -np.inf and np.isfinite(np.delete(compose(plain, steered), 4)).all()
    np.testing.assert_array_equal(compose(plain, steered[:1]), steered[0])


def test_two_requests_compose_and_each_is_taken_back(desk: Desk) -> None:
    talk = Conversation((0, 1)).said("+30").said("-2")
    plain, steered = desk.answer(talk, 4)
    assert plain.items.tolist() == [2, 3, 4, 5] and plain.before.tolist() == [1, 2, 3, 4] and plain.read == ()
    assert steered.items.tolist() == [30, 3, 4, 5] and steered.before.tolist() == [29, 2, 3, 4]
    assert [(part.polarity, round(part.confidence, 2)) for part in steered.read] == [(1, 0.9), (-1, 0.9)]
    assert desk.answer(talk.taken_back("+30"), 4)[1].items.tolist() == [3, 4, 5, 6]
    assert desk.answer(talk.taken_back("-2"), 4)[1].items.tolist() == [30, 2, 3, 4]
    assert desk.answer(talk.taken_back("-2").taken_back("+30"), 4)[1].items.tolist() == [2, 3, 4, 5]


def test_models_see_a_person_who_is_nobody_in_the_data(desk: Desk) -> None:
    desk.answer(Conversation((3,)).said("+7"))
    asked = desk.models["steered"].asked[-1]
    assert asked.users.tolist() == [60] and asked.intent is None and asked.history[0].tolist() == [3]


def test_a_conversation_forgets_and_repeats_nothing() -> None:
    talk = Conversation().seen(1).seen(2).seen(1)
    assert talk.history == (2, 1) and talk.unseen(2).history == (1,)
    assert talk.said("  ").parts == () and talk.said("a  b").said("a b").parts == ("a b",)


def test_search_wants_every_word_and_leaves_out_what_is_held(desk: Desk) -> None:
    assert [desk.catalogue.titles[item] for item in desk.search("title 12")] == ["Title 12"]
    assert 12 not in desk.search("title", [12]) and desk.search("") == [] == desk.search("nothing like it")
    found = desk.search("title 1")
    popularity = np.bincount(small_dataset().train_events().values, minlength=40)
    # "Title 1" and "Title 10" begin with it, "Title 21" only has both words.
    assert found == sorted(found, key=lambda item: (item != 1 and not 10 <= item < 20, -popularity[item]))
    assert len(found) == 12 and {1, *range(10, 20)} < set(found)


def test_moves_and_foreign_text(desk: Desk) -> None:
    assert moved(5, 2) == ("↑ 3", "up") and moved(1, 4) == ("↓ 3", "down") and moved(2, 2) == ("=", "same")
    talk = Conversation((0,), ("+3",))
    html = answers_html(desk, Conversation((0,), ("<i>",)), desk.answer(talk), "<hint>")
    assert "&lt;b&gt;Steered" in html and "&lt;i&gt;" in html and "&lt;hint&gt;" in html and "<b>" not in html


@pytest.mark.parametrize(
    ("models", "told"),
    [
        (("dpr_sas",), "hears no words, such as sasrec"),
        (("sasrec", "filter_sas"), "needs the task's own label"),
        (("sasrec", "zero_shot"), "needs a language model"),
        (("sasrek",), "Did you mean 'sasrec'"),
    ],
)
def test_models_that_the_demo_cannot_show_are_refused(models: tuple[str, ...], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        open_desk("mini", None, models, tmp_path, SilentProgress())


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from bench.cli import demo

    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    assert cli.main(["demo"]) == 2
    assert capsys.readouterr().err == "error: bench demo needs Gradio: pip install 'promptrec-bench[demo]'.\n"


TINY: dict[str, Any] = {"length": 20, "dim": 16, "epochs": 1}
BENEATH = {f"backbone.{key}": value for key, value in TINY.items()}
SETTINGS = {
    "sasrec": TINY,
    "filter_sas_parsed": BENEATH,
    "dpr_sas": BENEATH | {"epochs": 1, "tag_epochs": 0, "templates_per_set": 1, "share": 0.1},
}
lacks = why_no_browser() or (None if find_spec("gradio") else "Gradio is not installed")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The demo over quickly trained models, served on loopback."""
    from bench.demo.app import serve

    desk = open_desk("mini", None, DEFAULT_MODELS, tmp_path_factory.mktemp("out"), SilentProgress(), settings=SETTINGS)
    app, url = serve(desk, "mini <b>", "127.0.0.1", None)
    yield url
    app.close(verbose=False)


def titles(visit: Visit, model: str) -> list[str]:
    return [str(text) for text in visit.page.locator(f"#answers section[aria-label={model}] .title").all_inner_texts()]


def heard(visit: Visit) -> tuple[int, bool, bool]:
    """Of a list that follows every word: its lines, whether each is a comedy, and whether one is a romance."""
    labels = visit.page.locator("#answers section[aria-label=filter_sas_parsed] .labels").all_inner_texts()
    return len(labels), all("Comedy" in text for text in labels), any("Romance" in text for text in labels)


def say(visit: Visit, text: str) -> None:
    box = visit.page.locator("#words textarea, #words input").first
    box.fill(text)
    box.press("Enter")
    visit.page.locator("#parts .held button", has_text=text).wait_for()


@pytest.mark.slow
@pytest.mark.skipif(lacks is not None, reason=str(lacks))
def test_a_person_types_and_the_lists_change(address: str, tmp_path: Path) -> None:
    from bench.browser import chromium

    assert re.match(r"http://127\.0\.0\.1:\d+/", address)
    with chromium() as browser, visiting(browser) as visit:
        page = visit.page
        page.goto(address)
        page.locator("#answers .hint", has_text="Add at least one title").wait_for()
        search, first = page.locator("#search textarea, #search input").first, page.locator("#found button").first
        search.press_sequentially("the", delay=20)
        first.wait_for()
        # At once, as from the clipboard.
        search.fill("")
        first.wait_for(state="detached")
        search.fill("the")
        first.wait_for()
        chosen = first.inner_text()
        first.click()
        page.locator("#history button", has_text=chosen).wait_for()
        page.locator("#answers section").first.wait_for()
        before = {name: titles(visit, name) for name in DEFAULT_MODELS}
        assert all(len(found) == 10 and chosen not in found for found in before.values())

        # Answers may be drawn after what was said stands there; all of them are drawn at once.
        say(visit, "a Comedy please")
        becomes(lambda: heard(visit)[:2], (10, True))
        wished = {name: titles(visit, name) for name in DEFAULT_MODELS}
        assert wished["sasrec"] == before["sasrec"] and wished["filter_sas_parsed"] != before["filter_sas_parsed"]
        assert wished["dpr_sas"] != before["dpr_sas"]
        read = page.locator("#answers section[aria-label=dpr_sas] .read").inner_text()
        assert "wish" in read and "% sure" in read and page.locator("#answers .time").count() == 3

        say(visit, "but no Romance")
        becomes(lambda: heard(visit), (10, True, False))
        page.locator("#parts button", has_text="a Comedy please").click()
        page.locator("#parts button", has_text="a Comedy please").wait_for(state="detached")
        becomes(lambda: heard(visit), (10, False, False))

        say(visit, "<img src=x onerror=alert(1)> ${1+1}")
        expecting(page.locator("#parts")).to_contain_text("${1+1}")
        expecting(page.locator("#answers")).to_contain_text("${1+1}")
        expecting(page.locator("#answers img, #parts img")).to_have_count(0)
        page.locator("#history button").first.click()
        page.locator("#answers .hint", has_text="Add at least one title").wait_for()
        page.screenshot(path=tmp_path / "demo.png")
    assert visit.outside == []
