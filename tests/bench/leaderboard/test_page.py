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
from tests.tools.browsing import Visit, becomes, expecting, visiting, why_no_browser

pytestmark = pytest.mark.skipif(why_no_browser() is not None, reason=str(why_no_browser()))

SCRIPT = "<script>document.title='owned'</script>"
IMAGE = "<img src=x onerror=\"document.title='owned'\">&amp;"
ENDING = "</script><!--<script>document.title='owned'//"
# In one go, so that head and cells are of the same drawing of the table.
COLUMN = r"""name => {
  const heads = [...document.querySelectorAll("#table thead th")].map((head) => head.innerText.replace(/\W*$/, ""));
  const at = heads.indexOf(name);
  const rows = [...document.querySelectorAll("#table tbody tr")];
  return at < 0 ? [] : rows.map((row) => row.children[at]?.innerText.split("\n")[0] ?? "");
}"""


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
    pos["places"][1]["paired"] = False
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
    """The text of a column, top to bottom; nothing where the table has no such column."""
    return list(visit.page.evaluate(COLUMN, name))


def names(visit: Visit) -> list[str]:
    """The models of the table, top to bottom."""
    return list(visit.page.locator("#table tbody .name").all_inner_texts())


def choose(visit: Visit, facet: str, value: str) -> None:
    visit.page.locator(f"#choice-{facet} label", has_text=re.compile(f"^{value}$")).click()


def drawn(visit: Visit, name: str) -> Any:
    """A chart, once it has been looked at and has its points."""
    figure = visit.page.locator(f"#chart-{name}")
    figure.scroll_into_view_if_needed()
    figure.locator(".plot-svg a").first.wait_for()
    return figure


def test_a_group_is_chosen_and_the_page_says_what_its_numbers_are(visit: Visit) -> None:
    title = visit.page.locator("#group-title")
    expecting(title).to_have_text("POS, synthetic, protocol paper, condition genres")
    choose(visit, "task", "NEG")
    choose(visit, "protocol", "strict")
    expecting(title).to_have_text("NEG, synthetic, protocol strict, condition genres")
    for told in ("A refusal", "does not have the avoided genre at all", "N = 3, 5, 10"):
        expecting(visit.page.locator("#group-text")).to_contain_text(told)
    visit.page.reload()
    expecting(title).to_have_text("NEG, synthetic, protocol strict, condition genres")


def test_sorting_by_click_and_by_key_keeps_empty_cells_below(visit: Visit) -> None:
    values = column(visit, "NDCG@10")
    assert values == sorted(values, reverse=True) != sorted(values)
    visit.page.get_by_role("columnheader", name="NDCG@10").click()
    becomes(lambda: column(visit, "NDCG@10"), sorted(values))
    timed = [text for text in column(visit, "Latency p50") if text != "–"]
    upwards = sorted(timed, key=lambda text: float(text.removesuffix(" ms")))
    assert 1 < len(timed) < len(values) and upwards != upwards[::-1]
    latency = visit.page.locator("#table thead th", has_text="Latency p50").locator("[role=button], [tabindex]").first
    latency.focus()
    visit.page.keyboard.press("Enter")
    becomes(lambda: column(visit, "Latency p50"), [*upwards[::-1], "–"])
    visit.page.keyboard.press("Enter")
    becomes(lambda: column(visit, "Latency p50"), [*upwards, "–"])


def test_a_table_that_was_being_sorted_when_it_gave_way_tells_nothing_of_the_next_one(visit: Visit) -> None:
    """A click on a head is drawn by a timer, which here comes after the other choice and before this one's own."""
    rows = visit.page.locator("#table tbody tr")
    before = rows.count()
    status = visit.page.evaluate(
        """async () => {
          document.querySelector("#table thead th:nth-child(3)").click();
          document.querySelector("#choice-task input[value=neg]").click();
          await new Promise((done) => setTimeout(done, 50));
          return document.getElementById("status").textContent;
        }"""
    )
    assert rows.count() != before and status.startswith(f"{rows.count()} of {rows.count()} systems shown")


def test_filters_leave_what_was_asked_for(visit: Visit) -> None:
    marks, all_names = visit.page.locator("#table tbody tr .mark"), names(visit)
    everything, sources = len(all_names), marks.all_inner_texts()
    others = [source for source in sources if source != "measured"]
    assert 0 < len(others) < len(sources) == everything
    measured = visit.page.locator("#filter-source input[value=measured]")
    measured.uncheck()
    becomes(marks.all_inner_texts, others)
    measured.check()
    becomes(marks.all_inner_texts, sources)
    wanted = [name for name in all_names if "rerank" in name]
    assert 0 < len(wanted) < everything
    visit.page.locator("#search").fill("rerank")
    becomes(lambda: names(visit), wanted)
    status, ranked = visit.page.locator("#status"), visit.page.locator("#table tbody tr.ranked").count()
    told = f"{len(wanted)} of {everything} systems shown; {ranked} of them have a rank"
    expecting(status).to_have_text(re.compile(f"^{told}"))
    visit.page.locator("#search").fill("nothing has this name")
    expecting(visit.page.locator("#table tbody")).to_have_text("No row is left by these filters.")
    expecting(status).to_have_text(re.compile(f"^0 of {everything} systems"))


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
    head, order = visit.page.locator("#table thead"), sorted(names(visit))
    assert order != names(visit)
    visit.page.get_by_role("columnheader", name="System").click()
    becomes(lambda: names(visit), order)
    expecting(head).to_contain_text("Parameters")
    visit.page.locator("#column-sets input[value=cost]").uncheck()
    visit.page.locator("#column-sets input[value=more]").check()
    expecting(head).to_contain_text("N = 10")
    expecting(head).not_to_contain_text("Parameters")
    becomes(lambda: names(visit), order)


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
    expecting(dialog).to_be_hidden()


def test_an_erratum_of_the_paper_is_told(visit: Visit) -> None:
    visit.page.locator("#table tr.published .name").click()
    errata = visit.page.locator("dialog .errata")
    expecting(errata).to_be_visible()
    expecting(errata).to_contain_text("printed 0.900, shown here 0.900. Not the mean.")


def test_who_is_compared_by_intervals_is_told_in_the_table_and_behind_it(visit: Visit) -> None:
    said = "ompared by intervals: scores by example are not held here"
    expecting(visit.page.locator("#group-text")).to_contain_text("not held here are compared by intervals")
    ranks = visit.page.locator("#table tbody tr > :first-child span")
    titles = [str(rank.get_attribute("title")) for rank in ranks.all()]
    assert [said in title for title in titles[:3]] == [False, True, False] and "shared" in titles[1]
    dialog = visit.page.locator("dialog")
    for place, told in ((0, False), (1, True)):
        visit.page.locator("#table tbody tr.ranked .name").nth(place).click()
        expecting(dialog).to_contain_text("after Holm's correction")
        assert (f"C{said}" in dialog.inner_text()) == ("correction, by intervals)" in dialog.inner_text()) == told
        visit.page.keyboard.press("Escape")
        expecting(dialog).to_be_hidden()
    choose(visit, "task", "NEG")
    expecting(visit.page.locator("#group-title")).to_have_text(re.compile("^NEG"))
    assert "by intervals" not in visit.page.locator("#group-text").inner_text()


def test_charts_are_drawn_or_say_what_is_missing(visit: Visit) -> None:
    for name in ("latency", "price", "polarity", "compliance", "rerank"):
        expecting(drawn(visit, name).locator(".answer")).not_to_be_empty()
    expecting(visit.page.locator("#chart-latency .answer")).to_contain_text("hollow dot")
    stages = visit.page.locator("#chart-stages")
    stages.scroll_into_view_if_needed()
    stages.locator(".answer", has_text="No model here was trained both ways").wait_for()
    expecting(stages.locator("svg")).to_have_count(0)


def test_what_the_pointer_tells_lies_over_the_names(visit: Visit) -> None:
    figure = drawn(visit, "compliance")
    figure.locator(".names text").first.wait_for()
    figure.locator(".plot-svg a").first.hover(force=True)
    figure.locator("[aria-label=tip] text").first.wait_for()
    parts = "svg => [...svg.children].map((part) => part.getAttribute('aria-label') || part.getAttribute('class'))"

    def order() -> list[str]:
        return [part for part in figure.locator(".plot-svg").evaluate(parts) if part in ("names", "tip")]

    becomes(order, ["names", "tip"])


def test_rows_with_a_rank_stand_out_from_those_beside_them(visit: Visit) -> None:
    def colour(selector: str) -> str:
        return str(visit.page.locator(selector).first.evaluate("node => getComputedStyle(node).color"))

    ranked, beside = (colour(f"#table tr.{kind} .name") for kind in ("ranked", "beside"))
    assert ranked == colour("h1") != beside


def test_a_point_of_a_chart_leads_to_its_system_by_keyboard(visit: Visit) -> None:
    link = drawn(visit, "compliance").locator(".plot-svg a").first
    name = link.get_attribute("aria-label")
    link.press("Enter")
    title = visit.page.locator("dialog h2")
    expecting(title).to_be_visible()
    assert title.inner_text() in name


@pytest.mark.parametrize("visit", [{"color_scheme": "dark"}, {"color_scheme": "light"}], indirect=True)
def test_the_chosen_colours_win_over_the_system_and_stay(visit: Visit) -> None:
    def ground() -> str:
        return str(visit.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    root, by_system = visit.page.locator("html"), ground()
    visit.page.locator("#theme label", has_text="Dark").click()
    expecting(root).to_have_attribute("data-theme", "dark")
    dark = ground()
    visit.page.reload()
    becomes(ground, dark)
    visit.page.locator("#theme label", has_text="Light").click()
    expecting(root).to_have_attribute("data-theme", "light")
    light = ground()
    assert light != dark and by_system in (dark, light)


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
    expecting(visit.page.locator("#group-title")).to_have_text(re.compile("^NEG"))
    becomes(lambda: visit.page.evaluate("document.activeElement.value"), "neg")


@pytest.mark.parametrize("visit", [{"width": 360, "height": 740}], indirect=True)
def test_a_small_screen_never_scrolls_sideways(visit: Visit) -> None:
    def overflow(page: str = "document.documentElement") -> int:
        return max(0, int(visit.page.evaluate(f"{page}.scrollWidth - {page}.clientWidth")))

    becomes(overflow, 0)
    for name in ("latency", "rerank"):
        drawn(visit, name)
    visit.page.locator("#chart-stages").scroll_into_view_if_needed()
    expecting(visit.page.locator("#chart-stages .answer")).not_to_be_empty()
    becomes(overflow, 0)
    visit.page.locator("#table tbody tr.ranked .name").first.click()
    visit.page.locator("dialog .example").first.wait_for()
    becomes(overflow, 0)
    becomes(lambda: overflow("document.querySelector('dialog')"), 0)


def test_foreign_text_is_text(visit: Visit) -> None:
    choose(visit, "task", "SEQ")
    becomes(lambda: names(visit).count(SCRIPT), 1)
    visit.page.locator("#column-sets input[value=provenance]").check()
    becomes(lambda: column(visit, "Encoder").count(IMAGE), 1)
    visit.page.locator("#search").fill("onerror")
    expecting(visit.page.locator("#table tbody tr")).to_have_count(1)
    visit.page.locator("#table tbody .name", has_text="<script>").click()
    expecting(visit.page.locator("dialog h2")).to_contain_text(SCRIPT)
    expecting(visit.page).to_have_title("Promptable recommendation: the board")
    expecting(visit.page.locator("img")).to_have_count(0)


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
        expecting(made.page.locator("#group-title")).to_have_text("The board has no row yet")
    assert made.errors == []
