"""The page in a real browser, opened from disk: sorting, filters, examples, colours, keyboard, small screens, foreign text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench.browser import chromium
from bench.leaderboard.page import write_page
from bench.leaderboard.page_perf import synthetic_board
from bench.leaderboard.rows import Board
from tests.tools.browsing import Visit, visiting, why_no_browser

pytestmark = pytest.mark.skipif(why_no_browser() is not None, reason=str(why_no_browser()))

SCRIPT = "<script>document.title='owned'</script>"
IMAGE = "<img src=x onerror=\"document.title='owned'\">&amp;"
ENDING = "</script><!--<script>document.title='owned'//"


def item(number: int, **more: Any) -> dict[str, Any]:
    return {"item": number, "title": f"Film {number}", "labels": ["Comedy"], **more}


EXAMPLES = {
    "schema_version": 1,
    "row": "",
    "dataset": "synthetic",
    "private": True,
    "note": "1 of 11758 requests.",
    "examples": [
        {
            "user": 17,
            "window": 3,
            "prompt": "I'm in the mood for a Comedy",
            "polarity": 1,
            "routed": -1,
            "confidence": 0.61,
            "failed": False,
            "history_length": 83,
            "history": [item(number) for number in range(10)],
            "hidden": {"rule": "Comedy", "targets": [item(40, rank=1), item(50, rank=None)]},
            "ranking": [
                item(40, score=3.0, target=True, complies=True),
                item(41, score=2.0, target=False, complies=False),
            ],
            "metrics": {"ndcg@10": 0.43},
        }
    ],
}


def board() -> Board:
    """120 made-up rows, one with examples, and one published, under foreign names."""
    values = synthetic_board(120).model_dump(mode="json")
    hostile = values["rows"][0]
    hostile |= {"model": SCRIPT, "encoder": IMAGE, "variant": {IMAGE: ENDING}, "id": ENDING}
    for group in values["groups"]:
        for place in group["places"]:
            place["rows"] = [ENDING if name == "seq-dpr_sas-paper-none-0" else name for name in place["rows"]]
    hostile["metrics"][IMAGE] = hostile["metrics"]["ndcg@10"]
    pos = next(group for group in values["groups"] if group["id"] == "pos/paper/genres")
    wished = next(row for row in values["rows"] if row["id"] == pos["places"][0]["rows"][0])
    wished["examples_file"] = "examples/one.json"
    published = wished | {
        "id": "paper-1",
        "source": "published",
        "model": "dpr_sas",
        "run": None,
        "seed": None,
        "latency": None,
        "system": "paper",
        "examples_file": None,
        "published": {
            "label": "DPR",
            "tables": [1],
            "errata": [
                {
                    "table": 1,
                    "metric": "ndcg@10",
                    "window": "mean",
                    "printed": 0.9,
                    "shown": None,
                    "text": "Not the mean.",
                }
            ],
        },
    }
    published["metrics"] = {"ndcg@10": {"value": 0.575}}
    values["rows"].append(published)
    pos["beside"].append("paper-1")
    return Board.model_validate(values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("page")
    (made / "examples").mkdir()
    (made / "examples" / "one.json").write_text(json.dumps(EXAMPLES), "utf-8")
    write_page(board(), made)
    return made


@pytest.fixture(scope="module")
def browser() -> Any:
    with chromium() as started:
        yield started


@pytest.fixture
def visit(browser: Any, folder: Path, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with visiting(browser, **getattr(request, "param", {})) as made:
        made.page.goto((folder / "index.html").as_uri())
        yield made
        made.page.screenshot(path=tmp_path / f"{request.node.originalname}.png")
    assert made.outside == [] and made.errors == []


def column(visit: Visit, name: str) -> list[str]:
    """The text of a column, top to bottom."""
    heads = [re.sub(r"\W*$", "", text) for text in visit.page.locator("#table thead th").all_inner_texts()]
    cells = visit.page.locator(f"#table tbody tr > :nth-child({heads.index(name) + 1})").all_inner_texts()
    return [text.split("\n")[0] for text in cells]


def choose(visit: Visit, facet: str, value: str) -> None:
    visit.page.locator(f"#choice-{facet} label", has_text=re.compile(f"^{value}$")).click()


def test_a_group_is_chosen_and_the_page_says_what_its_numbers_are(visit: Visit) -> None:
    assert visit.page.locator("#group-title").inner_text() == "POS, synthetic, protocol paper, condition genres"
    choose(visit, "task", "NEG")
    choose(visit, "protocol", "strict")
    assert visit.page.locator("#group-title").inner_text() == "NEG, synthetic, protocol strict, condition genres"
    told = visit.page.locator("#group-text").inner_text()
    assert "A refusal" in told and "does not have the avoided genre at all" in told and "N = 3, 5, 10" in told
    visit.page.reload()
    assert visit.page.locator("#group-title").inner_text() == "NEG, synthetic, protocol strict, condition genres"


def test_sorting_by_click_and_by_key_keeps_empty_cells_below(visit: Visit) -> None:
    values = column(visit, "NDCG@10")
    assert values == sorted(values, reverse=True)
    head = visit.page.get_by_role("columnheader", name="NDCG@10")
    head.click()
    assert column(visit, "NDCG@10") == sorted(values)
    latency = visit.page.locator("#table thead th", has_text="Latency p50").locator("[role=button], [tabindex]").first
    latency.focus()
    visit.page.keyboard.press("Enter")
    assert column(visit, "Latency p50")[-1] == "–"
    visit.page.keyboard.press("Enter")
    assert column(visit, "Latency p50")[-1] == "–"


def test_filters_leave_what_was_asked_for(visit: Visit) -> None:
    everything = visit.page.locator("#table tbody tr").count()
    visit.page.locator("#filter-source input[value=measured]").uncheck()
    shown = visit.page.locator("#table tbody tr .mark").all_inner_texts()
    assert shown and "measured" not in shown and len(shown) < everything
    visit.page.locator("#filter-source input[value=measured]").check()
    visit.page.locator("#search").fill("rerank")
    assert all("rerank" in name for name in visit.page.locator("#table tbody .name").all_inner_texts())
    left, ranked = visit.page.locator("#table tbody tr"), visit.page.locator("#table tbody tr.ranked")
    told = f"{left.count()} of {everything} systems shown; {ranked.count()} of them have a rank"
    assert visit.page.locator("#status").inner_text().startswith(told)
    visit.page.locator("#search").fill("nothing has this name")
    assert visit.page.locator("#table tbody").inner_text() == "No row is left by these filters."
    assert visit.page.locator("#status").inner_text().startswith(f"0 of {everything} systems")


def test_sources_and_shared_ranks_are_told_apart(visit: Visit) -> None:
    published = visit.page.locator("#table tr.published")
    assert (
        published.count() == 1 and column(visit, "Rank")[int(published.evaluate("row => row.sectionRowIndex"))] == "–"
    )
    assert "published" in published.inner_text() and "erratum" in published.inner_text()
    assert {"1=", "3="} <= set(column(visit, "Rank"))
    assert (
        visit.page.locator("#table tr.submitted .mark.submitted").count()
        == visit.page.locator("#table tr.submitted").count()
        > 0
    )


def test_columns_come_and_go_and_the_order_stays(visit: Visit) -> None:
    visit.page.get_by_role("columnheader", name="System").click()
    order = visit.page.locator("#table tbody .name").all_inner_texts()
    assert "Parameters" in visit.page.locator("#table thead").inner_text()
    visit.page.locator("#column-sets input[value=cost]").uncheck()
    visit.page.locator("#column-sets input[value=more]").check()
    head = visit.page.locator("#table thead").inner_text()
    assert "Parameters" not in head and "N = 10" in head
    assert visit.page.locator("#table tbody .name").all_inner_texts() == order == sorted(order)


def test_the_examples_behind_a_number(visit: Visit) -> None:
    visit.page.locator("#table tbody tr.ranked .name").first.click()
    dialog = visit.page.locator("dialog")
    dialog.locator(".example").first.wait_for()
    text = dialog.inner_text()
    assert (
        "I'm in the mood for a Comedy" in text
        and "the last 10 of 83" in text
        and "may not be passed on" in text
        and "1 of 11758" in text
    )
    assert "About\nComedy" in text and "1 of 2 in the first 2" in text and "place 1" in text
    assert dialog.locator(".ranking li.hit .title").all_inner_texts() == ["Film 40"]
    assert dialog.locator(".ranking li.breaks .title").all_inner_texts() == ["Film 41"]
    facts = dialog.locator(".facts").inner_text()
    assert "share of a batch of 512" in facts and "backbone.dim\n64" in facts and "505 k" in facts
    assert not re.search(r"\bnull\b|undefined|\[object|NaN", text)
    assert dialog.locator("dd.breaks").inner_text() == "a refusal, 61 % sure"
    visit.page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_an_erratum_of_the_paper_is_told(visit: Visit) -> None:
    visit.page.locator("#table tr.published .name").click()
    assert "printed 0.900, shown here 0.900. Not the mean." in visit.page.locator("dialog .errata").inner_text()


def test_charts_are_drawn_or_say_what_is_missing(visit: Visit) -> None:
    for name in ("latency", "price", "polarity", "compliance", "rerank"):
        figure = visit.page.locator(f"#chart-{name}")
        figure.scroll_into_view_if_needed()
        figure.locator(".plot-svg a").first.wait_for()
        assert figure.locator(".answer").inner_text()
    assert "hollow dot" in visit.page.locator("#chart-latency .answer").inner_text()
    stages = visit.page.locator("#chart-stages")
    stages.scroll_into_view_if_needed()
    stages.locator(".answer", has_text="No model here was trained both ways").wait_for()
    assert stages.locator("svg").count() == 0


def test_what_the_pointer_tells_lies_over_the_names(visit: Visit) -> None:
    figure = visit.page.locator("#chart-compliance")
    figure.scroll_into_view_if_needed()
    figure.locator(".names text").first.wait_for()
    figure.locator(".plot-svg a").first.hover(force=True)
    figure.locator("[aria-label=tip] text").first.wait_for()
    order = figure.locator(".plot-svg").evaluate(
        "svg => [...svg.children].map((part) => part.getAttribute('aria-label') || part.getAttribute('class'))"
    )
    assert order.index("names") < order.index("tip")


def test_rows_with_a_rank_stand_out_from_those_beside_them(visit: Visit) -> None:
    def colour(selector: str) -> str:
        return str(visit.page.locator(selector).first.evaluate("node => getComputedStyle(node).color"))

    ranked, beside = (colour(f"#table tr.{kind} .name") for kind in ("ranked", "beside"))
    assert ranked == colour("h1") != beside


def test_a_point_of_a_chart_leads_to_its_system_by_keyboard(visit: Visit) -> None:
    figure = visit.page.locator("#chart-compliance")
    figure.scroll_into_view_if_needed()
    link = figure.locator(".plot-svg a").first
    link.wait_for()
    name = link.get_attribute("aria-label")
    link.focus()
    visit.page.keyboard.press("Enter")
    assert visit.page.locator("dialog h2").inner_text() in name


@pytest.mark.parametrize("visit", [{"color_scheme": "dark"}, {"color_scheme": "light"}], indirect=True)
def test_the_chosen_colours_win_over_the_system_and_stay(visit: Visit) -> None:
    def ground() -> str:
        return str(visit.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    by_system = ground()
    visit.page.locator("#theme label", has_text="Dark").click()
    dark = ground()
    visit.page.reload()
    assert ground() == dark
    visit.page.locator("#theme label", has_text="Light").click()
    assert ground() != dark and by_system in (dark, ground())


def test_everything_is_reached_by_tab_alone(visit: Visit) -> None:
    reached: set[str] = set()
    for _ in range(60):
        visit.page.keyboard.press("Tab")
        reached.add(
            visit.page.evaluate(
                "(() => { const at = document.activeElement; const part = at.closest('#theme, #choice-task, #choice-condition,"
                " #filters, #table thead, #table tbody, nav, .skip, #table-region');"
                " return part ? (part.id || part.tagName + part.className) : at.tagName })()"
            )
        )
    assert {
        "Askip",
        "NAV",
        "theme",
        "choice-task",
        "choice-condition",
        "filters",
        "table-region",
        "THEAD",
        "TBODY",
    } <= reached


def test_arrow_keys_change_the_choice_and_keep_the_focus(visit: Visit) -> None:
    visit.page.locator("#choice-task input[value=pos]").focus()
    visit.page.keyboard.press("ArrowRight")
    assert visit.page.locator("#group-title").inner_text().startswith("NEG")
    assert visit.page.evaluate("document.activeElement.value") == "neg"


@pytest.mark.parametrize("visit", [{"width": 360, "height": 740}], indirect=True)
def test_a_small_screen_never_scrolls_sideways(visit: Visit) -> None:
    def overflow() -> int:
        return int(visit.page.evaluate("document.documentElement.scrollWidth - innerWidth"))

    assert overflow() <= 0
    for name in ("latency", "rerank", "stages"):
        visit.page.locator(f"#chart-{name}").scroll_into_view_if_needed()
        visit.page.wait_for_timeout(100)
    assert overflow() <= 0
    visit.page.locator("#table tbody tr.ranked .name").first.click()
    visit.page.locator("dialog .example").first.wait_for()
    assert overflow() <= 0
    dialog = visit.page.locator("dialog")
    assert dialog.evaluate("node => node.scrollWidth - node.clientWidth") <= 0


def test_foreign_text_is_text(visit: Visit) -> None:
    choose(visit, "task", "SEQ")
    assert SCRIPT in visit.page.locator("#table tbody .name").all_inner_texts()
    visit.page.locator("#column-sets input[value=provenance]").check()
    assert IMAGE in column(visit, "Encoder")
    visit.page.locator("#search").fill("onerror")
    assert visit.page.locator("#table tbody tr").count() == 1
    visit.page.locator("#table tbody .name", has_text="<script>").click()
    assert SCRIPT in visit.page.locator("dialog h2").inner_text()
    assert visit.page.title() == "Promptable recommendation: the board"
    assert visit.page.locator("img").count() == 0


def test_names_that_lead_out_of_the_folder_are_no_examples(browser: Any, tmp_path: Path) -> None:
    values = synthetic_board(14).model_dump(mode="json")
    (tmp_path / "secret.json").write_text("{}", "utf-8")
    for row, name in zip(
        values["rows"],
        ("../secret.json", "examples/../../secret.json", "/etc/passwd", "https://x.y/z.json"),
        strict=False,
    ):
        row["examples_file"] = name
    write_page(Board.model_validate(values), tmp_path / "page")
    assert not (tmp_path / "secret.js").exists()
    assert not {"secret", "passwd", "x.y"} & set(
        re.findall(r"secret|passwd|x\.y", (tmp_path / "page" / "index.html").read_text("utf-8"))
    )


def test_an_empty_board_says_so(browser: Any, tmp_path: Path) -> None:
    index = write_page(Board(rows=[]), tmp_path)
    with visiting(browser) as made:
        made.page.goto(index.as_uri())
        assert made.page.locator("#group-title").inner_text() == "The board has no row yet"
    assert made.errors == []
