"""Claims on made-up scores, where the right answer is known."""

import numpy as np
import pytest

from bench.reproduce import claims, grids
from bench.reproduce.claims import GAIN, Comparison, comparisons, decide
from bench.reproduce.grids import Row
from bench.reproduce.measured import Stored

USERS = 120
DPR, FILTER, OTHER = Row("DPR", "dpr"), Row("Filter", "filter"), Row("Filter +f", "filter_f")


def stored(ndcg, recall=None, seeds=(0,), digest="q"):
    ndcg = np.asarray(ndcg, float)
    columns = {"ndcg@10": ndcg, "recall@10": ndcg if recall is None else np.asarray(recall, float)}
    size = len(ndcg) // len(seeds)
    users = np.tile(np.arange(size) // 2, len(seeds)).astype(np.int32)
    windows = np.tile(np.where(np.arange(size) % 2, 5, 3), len(seeds)).astype(np.int32)
    digests = {seed: f"{digest}{seed}" for seed in seeds}
    return Stored(columns, users, windows, tuple(seeds), digests, (size,) * len(seeds))


def noise(seed, size=2 * USERS):
    return np.random.default_rng(seed).random(size)


def ask(sign=1, rivals=(FILTER,), metric=claims.MAIN, claim="e"):
    return Comparison(claim, "sasrec", "pos", "none", DPR, tuple(rivals), sign, metric)


def answer(asked, scores):
    (verdict,) = decide([asked], lambda row, task, condition: scores.get(row.model))
    return verdict


@pytest.mark.parametrize(
    ("shift", "sign", "expected"),
    [(0.1, 1, "holds"), (-0.1, 1, "does not hold"), (-0.1, -1, "holds"), (0.1, -1, "does not hold")],
)
def test_a_clear_difference_decides(shift, sign, expected):
    base = noise(0)
    verdict = answer(ask(sign), {"dpr": stored(base + shift + 0.05 * noise(1)), "filter": stored(base + 0.025)})
    assert verdict.answer == expected and verdict.reason == ""
    assert verdict.low < verdict.difference < verdict.high and (verdict.low > 0) == (shift > 0)
    assert verdict.p_holm < 0.05 and verdict.n == 2 * USERS and verdict.rival == "filter"
    assert verdict.difference == pytest.approx(verdict.value - verdict.rival_value)


def test_noise_is_not_decidable():
    verdict = answer(ask(), {"dpr": stored(noise(0)), "filter": stored(noise(1))})
    assert verdict.answer == "not decidable" and verdict.reason == "the interval includes zero"
    assert verdict.low < 0 < verdict.high and verdict.p > 0.05


def test_a_missing_run_is_not_decidable_and_named():
    verdict = answer(ask(), {"filter": stored(noise(0))})
    assert (verdict.answer, verdict.p) == ("not decidable", None)
    assert verdict.reason == "no finished run of dpr"


def test_runs_that_were_asked_other_questions_are_not_compared():
    verdict = answer(ask(), {"dpr": stored(noise(0) + 1), "filter": stored(noise(0), digest="other")})
    assert verdict.answer == "not decidable" and "other questions" in verdict.reason


def test_the_best_rival_is_the_one_compared_with():
    scores = {"dpr": stored(noise(0) + 0.2), "filter": stored(noise(0)), "filter_f": stored(noise(0) + 0.1)}
    verdict = answer(ask(rivals=(FILTER, OTHER)), scores)
    assert verdict.rival == "filter_f" and verdict.difference == pytest.approx(0.1)


def test_with_a_rival_missing_only_a_loss_is_certain():
    above = {"dpr": stored(noise(0) + 0.2), "filter": stored(noise(0))}
    below = {"dpr": stored(noise(0) - 0.2), "filter": stored(noise(0))}
    won = answer(ask(rivals=(FILTER, OTHER)), above)
    assert won.answer == "not decidable" and "rivals" in won.reason
    assert answer(ask(rivals=(FILTER, OTHER)), below).answer == "does not hold"


def test_holm_corrects_over_all_comparisons_of_the_report():
    # A difference of 2.6 standard errors by user, both of whose examples share it: p is about 0.01.
    drawn = np.random.default_rng(5).normal(size=USERS)
    weak = np.repeat(0.1 * (drawn - drawn.mean()) / drawn.std() + 0.024, 2)
    scores = {"dpr": stored(noise(0) + weak), "filter": stored(noise(0))}
    alone = answer(ask(), scores)
    lookup = lambda row, task, condition: scores.get(row.model)  # noqa: E731
    many = decide([ask() for _ in range(200)], lookup)
    assert alone.answer == "holds" and alone.p == alone.p_holm
    assert all(each.p == alone.p for each in many)
    assert many[0].p_holm == pytest.approx(min(1.0, 200 * alone.p)) and many[0].answer == "not decidable"
    assert "Holm" in many[0].reason


def test_only_the_seeds_that_both_have_are_compared():
    ours = stored(np.concatenate([noise(0) + 0.1, noise(1) + 5.0]), seeds=(0, 1))
    verdict = answer(ask(), {"dpr": ours, "filter": stored(noise(0))})
    assert verdict.seeds == (0,) and verdict.difference == pytest.approx(0.1) and verdict.n == 2 * USERS


def test_seeds_are_pooled_by_user():
    base = np.concatenate([noise(0), noise(1)])
    ours = base + np.repeat([0.1, 0.3], 2 * USERS)
    verdict = answer(ask(), {"dpr": stored(ours, seeds=(0, 1)), "filter": stored(base, seeds=(0, 1))})
    assert verdict.difference == pytest.approx(0.2) and verdict.n == 4 * USERS and verdict.seeds == (0, 1)


def gain_scores(ndcg_gain, recall_gain):
    base_n, base_r = 0.2 + 0.2 * noise(0), (noise(1) < 0.5).astype(float)
    extra = 0.02 * (noise(2) - 0.5)
    ours = stored(base_n * (1 + ndcg_gain) + extra, base_r * (1 + recall_gain))
    return {"dpr": ours, "filter": stored(base_n, base_r)}


@pytest.mark.parametrize(("ndcg", "recall", "expected"), [(0.7, 0.4, "holds"), (0.2, 0.5, "does not hold")])
def test_relative_gains_are_compared_for_claim_d(ndcg, recall, expected):
    verdict = answer(ask(metric=GAIN, claim="d"), gain_scores(ndcg, recall))
    assert verdict.answer == expected
    assert verdict.difference == pytest.approx(ndcg - recall, abs=0.01)
    ours, theirs = (gain_scores(ndcg, recall)[name] for name in ("dpr", "filter"))
    exact = ours.headline("ndcg@10") / theirs.headline("ndcg@10") - ours.headline("recall@10") / theirs.headline(
        "recall@10"
    )
    assert verdict.difference == pytest.approx(exact)


def test_claim_d_is_not_decidable_without_a_gain():
    verdict = answer(ask(metric=GAIN, claim="d"), gain_scores(-0.1, -0.5))
    assert verdict.answer == "not decidable" and "no gain" in verdict.reason


def test_the_interval_of_claim_d_covers_as_it_should():
    """Under equal true gains a 95 % interval leaves out zero in about one of twenty draws."""
    outside = 0
    for draw in range(40):
        rng = np.random.default_rng(draw)
        hit, ours_hit = rng.random(2 * USERS) < 0.4, rng.random(2 * USERS) < 0.6
        place = rng.random((2, 2 * USERS))
        scores = {
            "dpr": stored(ours_hit * place[0], ours_hit.astype(float)),
            "filter": stored(hit * place[1], hit.astype(float)),
        }
        verdict = answer(ask(metric=GAIN, claim="d"), scores)
        outside += not verdict.low <= 0 <= verdict.high
    assert outside <= 7


def test_every_claim_is_asked_of_both_backbones_and_in_every_condition():
    asked = comparisons("ml-1m")
    judged = claims.judged_comparisons("ml-1m", "proxy")
    assert {each.claim for each in [*asked, *judged]} == {claim.key for claim in claims.CLAIMS}
    for backbone in grids.BACKBONES:
        mine = [each for each in asked if each.backbone == backbone]
        for claim in ("b", "c", "e", "e'"):
            places = {(each.task, each.condition) for each in mine if each.claim == claim}
            assert places == {("pos", "genre"), ("pos", "genres"), ("pos", "tag"), ("neg", "genre"), ("neg", "genres")}
        assert {each.rivals[0].label for each in mine if each.claim == "f"} == {"Base", "+f"}
        assert len([each for each in mine if each.claim == "a"]) == 6
        assert {each.task for each in mine if each.claim == "d"} == {"pos"}


def test_the_printed_differences_stand_beside():
    by = {(each.claim, each.backbone, each.task, each.condition): each for each in comparisons("ml-1m")}
    assert by["e", "sasrec", "pos", "genres"].paper == pytest.approx(71.84, abs=0.02)
    assert by["e", "sasrec", "neg", "genre"].paper == pytest.approx(-0.95, abs=0.02)
    assert (by["e", "sasrec", "neg", "genre"].sign, by["e", "gru4rec", "neg", "genre"].sign) == (-1, 1)
    assert by["d", "sasrec", "pos", "tag"].paper == pytest.approx(71.84 - 36.24, abs=0.04)
    assert by["a", "sasrec", "pos", "tag"].paper == pytest.approx(100 * (0.5748 / 0.5297 - 1), abs=0.01)
    assert by["c", "sasrec", "pos", "tag"].paper == pytest.approx(100 * (0.5748 / 0.1670 - 1), abs=0.01)
    assert by["e'", "sasrec", "pos", "tag"].paper is None
    # Each printed difference has the sign that is claimed.
    assert all(each.sign * each.paper > 0 for each in by.values() if each.paper is not None and each.claim != "c")
    assert all(each.paper is None for each in comparisons("mini"))


def test_claims_of_table_4_are_decided_by_a_judges_scores():
    scores = {
        "sasrec": (5.0, 4.0),
        "dpr_sas prompt=mismatched": (3.0, 3.5),
        "dpr_sas": (6.0, 5.5),
    }

    def look_up(row, task, condition):
        assert (task, condition) == ("nuanced", "none" if row.model == "sasrec" else "free")
        noise = np.resize([-0.5, 0.5], 200)
        intent, overall = scores[row.key]
        columns = {"intent_fulfillment": intent + noise, "overall_score": overall + noise[::-1]}
        return Stored(columns, np.arange(200, dtype=np.int32), np.zeros(200, np.int32), (0,), {0: "asked"}, (200,))

    verdicts = claims.decide(claims.judged_comparisons("ml-1m", "proxy"), look_up)
    assert [(each.comparison.claim, each.rival, each.answer) for each in verdicts] == [
        ("g", "sasrec", "holds"),
        ("g", "dpr_sas prompt=mismatched", "holds"),
        ("h", "dpr_sas prompt=mismatched", "holds"),
    ]
    assert [each.difference for each in verdicts] == pytest.approx([1.5, 2.0, 3.0])
    assert (verdicts[0].value, verdicts[0].rival_value, verdicts[2].value) == pytest.approx((5.5, 4.0, 6.0))
    assert verdicts[0].comparison.paper == pytest.approx(100 * (5.932 / 4.708 - 1), abs=0.01)
    assert verdicts[2].comparison.paper == pytest.approx(100 * (5.888 / 3.288 - 1), abs=0.01)
