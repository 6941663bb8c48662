"""A judge whose answers are planted is recovered by the audit: separation, noise, biases and agreement, within the interval.

Dozens of figures are compared with what was planted, each with a 95 % interval, so a few of them must lie outside by chance: none by
more than two thirds of the interval's arm (3.3 standard errors), and no more of all than one in ten.
"""

from __future__ import annotations

import csv
import math
from dataclasses import replace

import krippendorff
import numpy as np
import pytest

from bench import language
from bench.contracts import ASPECTS, NO_ITEM
from bench.judging import JudgeConfig, open_case, seat
from bench.progress import SilentProgress
from judges.audit import AuditSettings, JudgeAudit
from tests.judges.planted import NOISE_VARIANCE, Planted, base, relevant

pytestmark = pytest.mark.usefixtures("light")
LENIENCY, PRIMACY, WORDINESS, FAVOURS_FIRST = 1, 1, 1, 0.3


def labels_of(catalogue, item):
    return ", ".join(catalogue.label_names[label] for label in catalogue.labels[item])


def flags_of(case, lists):
    """Which items of each list are relevant to the request that is put beside it."""
    catalogue = case.asked.dataset.catalogue
    names = [labels_of(catalogue, item) for item in range(len(catalogue))]
    prompts = lists.requests.prompts
    return [
        [relevant(names[item], prompts[row]) for item in items if item != NO_ITEM]
        for row, items in enumerate(lists.items)
    ]


def graded(case, most, seed):
    """The case with lists of which the first 1 to `most` items are relevant and the others are not."""
    draw = np.random.default_rng(seed)
    catalogue, requests = case.asked.dataset.catalogue, case.examples.requests
    names = [labels_of(catalogue, item) for item in range(len(catalogue))]
    items = case.items.copy()
    for row, prompt in enumerate(requests.prompts):
        free = np.setdiff1d(draw.permutation(len(catalogue)), requests.history[row])
        free = draw.permutation(free)
        fits = np.array([relevant(names[item], prompt) for item in free])
        count = int(draw.integers(1, most + 1))
        items[row] = [*free[fits][:count], *free[~fits][: 10 - count]]
    return replace(case, items=items)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """A good system and a poor one, on the same 100 users."""
    import bench

    out = tmp_path_factory.mktemp("planted")
    folder = bench.run(task="pos", model="popularity", dataset="mini", windows=(3,), limit=100, out=out).directory
    case = open_case(folder, None, None, SilentProgress())
    return [graded(named(case, "good"), 10, 1), graded(named(case, "poor"), 5, 2)]


def named(case, model):
    """The case as if it were a run of another model."""
    start, *others = case.asked.history.records
    start = start | {"about": start["about"] | {"model": model, "run": f"pos-{model}-mini-0"}}
    return replace(case, asked=replace(case.asked, history=replace(case.asked.history, records=[start, *others])))


@pytest.fixture(scope="module")
def report(cases, light, tmp_path_factory, module_serve):
    """One audit of one planted judge, with the rule's own scores as a person's."""
    folder = tmp_path_factory.mktemp("audit")
    fault = {"leniency": LENIENCY, "primacy": PRIMACY, "wordiness": WORDINESS, "favours_first": FAVOURS_FIRST}
    config_path = module_serve(planted=Planted(**fault))
    people = folder / "people.csv"
    with people.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["run", "example", "rater", "intent_fulfillment"])
        for case in cases:
            for row, flags in enumerate(flags_of(case, case.lists)):
                rows.writerow([case.asked.about["run"], int(case.rows[row]), "rule", int(base(flags))])
    asking = JudgeAudit(cases, AuditSettings(labels=people, pairs=6), SilentProgress())
    config = JudgeConfig(run=cases[0].directory, judge="llm", llm="planted", llm_config=config_path, out=folder)
    with language.opened_for("judge", ("llm",), config, SilentProgress()) as llm:
        asking.hear("planted", seat(config, cases[0].asked.dataset, llm, SilentProgress()))
    return asking, asking.report()


def rule(case, lists):
    return np.array([base(flags, PRIMACY) + LENIENCY for flags in flags_of(case, lists)])


def separation(cases, asking, found):
    """Means differ as planted, and d is that of the rule with the noise's variance added."""
    sheets = {system.name: rule(system.case, system.lists) for system in asking.systems}
    judge = found["judges"]["planted"]
    for check in judge["controls"]["checks"]:
        one, other = sheets[check["higher"]], sheets[check["lower"]]
        spread = math.sqrt((one.var() + other.var()) / 2 + NOISE_VARIANCE)
        yield check["difference"], (one - other).mean()
        yield check["d"], (one - other).mean() / spread
    for name, values in sheets.items():
        yield judge["scores"][name]["intent_fulfillment"], values.mean()


def noise(cases, asking, found):
    """The standard deviation of the noise, one pair of judgements in three equal, and no alpha where there is noise alone."""
    consistency = found["judges"]["planted"]["consistency"]
    for aspect in ASPECTS:
        yield consistency[aspect]["sd"], math.sqrt(NOISE_VARIANCE)
    yield consistency["history_alignment"]["same"], 1 / 3
    yield consistency["intent_fulfillment"]["same"], 1 / 3
    yield consistency["history_alignment"]["alpha"], 0


def presentation(cases, asking, found):
    """The first item counts more, and descriptions are worth a point; of history alignment neither is true."""
    judge = found["judges"]["planted"]
    primacy = PRIMACY * np.mean([one[0] and not one[-1] for one in flags_of(cases[0], cases[0].lists)])
    yield judge["order"]["reversed"]["intent_fulfillment"]["difference"], primacy
    yield judge["order"]["reversed"]["history_alignment"]["difference"], 0
    yield judge["order"]["reversed"]["history_alignment"]["beyond_repeats"], 0
    yield judge["order"]["shuffled"]["history_alignment"]["difference"], 0
    yield judge["wording"]["intent_fulfillment"]["difference"], -WORDINESS
    yield judge["wording"]["history_alignment"]["difference"], 0


def between_lists(cases, asking, found):
    """A share q of comparisons goes to whoever comes first; the others to the rule, which may tie."""
    pairwise, pairing, q = found["judges"]["planted"]["pairwise"], asking.pairing, FAVOURS_FIRST
    grades = np.stack([[base(flags) for flags in flags_of(each.case, each.lists)] for each in asking.rivals])
    ties = (grades[pairing.one, pairing.row] == grades[pairing.other, pairing.row]).mean()
    yield pairwise["ties"], (1 - q) * ties
    yield pairwise["first"], (q + (1 - q) * (1 - ties) / 2) / (1 - (1 - q) * ties)
    # Both orders agree where the rule decides both, or where one order was favoured and would have won anyway.
    yield pairwise["same"], (1 - q) ** 2 + q * (1 - q) * (1 - ties)


def with_people(cases, asking, found):
    """Kappa follows in closed form from the rule and the noise; alpha from twenty thousand draws of the same."""
    pair = next(each for each in found["agreement"]["pairs"] if each["score"] == "intent_fulfillment")
    flags = [each for case in cases for each in flags_of(case, case.lists)]
    person = np.array([base(each) for each in flags])
    judge = np.array([base(each, PRIMACY) + LENIENCY for each in flags])
    yield pair["leniency"], (judge - person).mean()
    apart = ((judge - person) ** 2).mean() + NOISE_VARIANCE
    by_chance = judge.var() + NOISE_VARIANCE + person.var() + (judge.mean() - person.mean()) ** 2
    yield pair["kappa"], 1 - apart / by_chance
    draw = np.random.default_rng(0)
    rows = draw.integers(0, len(flags), 20_000)
    noisy = judge[rows] + draw.integers(-1, 2, len(rows))
    grades = list(range(1, 11))
    yield (
        pair["alpha"],
        krippendorff.alpha(np.stack([noisy, person[rows]]), level_of_measurement="ordinal", value_domain=grades),
    )


PLANTED = (separation, noise, presentation, between_lists, with_people)


@pytest.mark.parametrize("planted", PLANTED)
def test_what_was_planted_is_recovered(cases, report, planted):
    """Within 3.3 standard errors, each."""
    pairs = list(planted(cases, *report))
    assert len(pairs) >= 3
    for figure, value in pairs:
        arms = figure["value"] - figure["low"], figure["high"] - figure["value"]
        assert -1.7 * arms[0] <= value - figure["value"] <= 1.7 * arms[1], (figure, value)


def test_the_intervals_cover_what_was_planted(cases, report):
    """Nine in ten of all, at least."""
    pairs = [pair for planted in PLANTED for pair in planted(cases, *report)]
    assert len(pairs) > 35
    assert np.mean([figure["low"] <= value <= figure["high"] for figure, value in pairs]) >= 0.9


def test_what_was_planted_is_told_from_nothing(report):
    """Every planted effect is large enough to be seen: its interval leaves 0 (0.5, for the position) out."""
    found = report[1]
    judge = found["judges"]["planted"]
    checks = judge["controls"]["checks"]
    assert {(check["higher"], check["lower"]) for check in checks} == {
        ("good", "mismatched"),
        *(("oracle", name) for name in ("good", "poor", "random", "popularity")),
        *(("good", name) for name in ("random", "popularity")),
    }
    assert judge["controls"]["passed"] == judge["controls"]["of"] == 7
    assert judge["order"]["reversed"]["overall_score"]["difference"]["low"] > 0.3
    assert judge["wording"]["overall_score"]["difference"]["high"] < -0.5
    assert judge["pairwise"]["first"]["low"] > 0.52
    pair = next(each for each in found["agreement"]["pairs"] if each["score"] == "intent_fulfillment")
    assert (pair["one"], pair["other"]) == ("planted", "rule (person)") and pair["leniency"]["low"] > 1
    # A lenient judge agrees less than its ranking does.
    assert 0 < pair["alpha"]["value"] < pair["spearman"]["low"]


def test_lists_against_each_other_rank_the_systems_as_their_scores_do(report):
    pairwise = report[1]["judges"]["planted"]["pairwise"]
    order = [row["system"] for row in pairwise["systems"]]
    assert order[:2] == ["oracle", "good"] and order[2] == "poor" and set(order[3:]) == {"random", "popularity"}
    assert pairwise["tau"] > 0.7 and all(set(pair) == {"random", "popularity"} for pair in pairwise["swapped"])
    assert pairwise["order_agrees"] == (not pairwise["swapped"])


def test_a_blind_judge_fails_the_controls(cases, tmp_path, serve):
    """The same audit of a judge that says the same of everything passes nothing."""

    class Blind(Planted):
        def read(self, prompt, part):
            return "", [False] * 10, False

    config = JudgeConfig(
        run=cases[0].directory, judge="llm", llm="blind", llm_config=serve(blind=Blind()), out=tmp_path
    )
    small = [
        replace(case, examples=case.examples.take(np.arange(30)), rows=case.rows[:30], items=case.items[:30])
        for case in cases
    ]
    asking = JudgeAudit(small, AuditSettings(repeats=1, pairs=1), SilentProgress())
    with language.opened_for("judge", ("llm",), config, SilentProgress()) as llm:
        asking.hear("blind", seat(config, cases[0].asked.dataset, llm, SilentProgress()))
    judge = asking.report()["judges"]["blind"]
    assert judge["controls"]["of"] > 3 and judge["controls"]["passed"] == 0
    assert abs(judge["consistency"]["intent_fulfillment"]["alpha"]["value"]) < 0.4
    assert judge["pairwise"]["ties"]["value"] == 1 and judge["pairwise"]["first"]["value"] is None


def test_the_report_is_readable(report):
    asking, found = report
    text = asking.render(found | {"users": 1})
    assert "# Can the judge be trusted?" in text and "| oracle |" in text and "Kendall's tau" in text
    assert "nan" not in text.lower().replace("maintenance", "")
