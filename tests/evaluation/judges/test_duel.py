import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.judges.cases import FunctionJudge, by_content, longer, pair
from trimpot.core.errors import UsageError
from trimpot.evaluation.judges.duel import (
    Judged,
    judge_pairs,
    judged_outcomes,
    position_bias,
    repeat_spread,
    share,
    swap_rule,
)
from trimpot.evaluation.judges.judge import Verdict
from trimpot.statistics.intervals import wilson

SHOWN = st.sampled_from([0.0, 0.5, 1.0])


def judged(number, forward, backward, cluster=""):
    return Judged(pair(number, cluster=cluster), *(tuple(Verdict(v) for v in side) for side in (forward, backward)))


def test_a_win_only_where_both_orders_agree():
    table = {(a, b): swap_rule(a, b) for a in (0.0, 0.5, 1.0) for b in (0.0, 0.5, 1.0)}
    assert table == {
        (1.0, 0.0): 0.0,  # A first wins, and A second wins
        (0.0, 1.0): 1.0,
        (0.5, 0.5): 0.5,
        (1.0, 1.0): 0.5,
        (0.0, 0.0): 0.5,
        (1.0, 0.5): 0.5,
        (0.5, 1.0): 0.5,
        (0.0, 0.5): 0.5,
        (0.5, 0.0): 0.5,
    }


@given(SHOWN, SHOWN)
def test_swapping_the_models_turns_the_score(forward, backward):
    assert swap_rule(forward, backward) == 1 - swap_rule(backward, forward)


def test_pairs_are_asked_in_both_orders_and_equal_answers_not_at_all():
    judge = FunctionJudge(by_content)
    pairs = [pair(1, a="x", b="right"), pair(2, a="right", b="x"), pair(3, a="same", b="same"), pair(4, a="x", b="y")]
    found = judge_pairs(judge, pairs)
    assert [one.score for one in found] == [1.0, 0.0, 0.5, 0.5]
    assert judge.asked == 6
    assert found[2].forward == ()
    assert [one.status for one in found] == ["ok"] * 4


def test_a_judge_that_order_cannot_matter_to_is_asked_once():
    judge = FunctionJudge(longer, order_matters=False)
    found = judge_pairs(judge, [pair(1, a="x", b="longer")])
    assert (found[0].score, judge.asked) == (1.0, 1)
    assert found[0].conflicts == ()


def test_progress_counts_all_orders_and_draws():
    told = []

    judge = FunctionJudge(by_content, temperature=1.0)
    judge_pairs(judge, [pair(1), pair(2)], 3, lambda *now: told.append(now))
    assert told == [(2, 12), (4, 12), (6, 12), (8, 12), (10, 12), (12, 12)]


def test_repeats_of_a_judge_that_always_says_the_same_are_refused():
    with pytest.raises(UsageError, match="repeats: function says the same each time"):
        judge_pairs(FunctionJudge(longer), [pair(1)], 2)


def test_a_missing_verdict_is_no_tie():
    one = Judged(pair(1), (Verdict(1.0),), (Verdict(None, "parse_failed"),))
    assert (one.score, one.status, one.conflicts) == (None, "parse_failed", ())


def test_a_judge_that_prefers_the_first_answer_is_found_out():
    found = judge_pairs(FunctionJudge(lambda question, draw: 1.0), [pair(n) for n in range(12)])
    bias = position_bias(found)
    assert [one.score for one in found] == [0.5] * 12
    assert (bias.rate.value, bias.first, bias.second, bias.direction) == (1.0, 12, 0, "first")
    assert bias.rate.low == pytest.approx(wilson(12, 12).low)
    second = position_bias(judge_pairs(FunctionJudge(lambda question, draw: 0.0), [pair(n) for n in range(12)]))
    assert second.direction == "second"


def test_position_bias_by_hand():
    rows = [judged(n, [1.0], [1.0]) for n in range(3)]  # three times the first shown
    rows += [judged(3, [0.5], [0.0])]  # a tie, and A although B was first: the second place gained
    rows += [judged(n, [0.0], [1.0]) for n in range(4, 10)]
    bias = position_bias(rows)
    assert (bias.rate.value, bias.first, bias.second) == (0.4, 3, 1)
    assert bias.first_share.value == 0.75
    assert bias.p_value == pytest.approx(0.625)
    assert bias.direction == "undecided"
    assert (bias.rate.low, bias.rate.high) == (wilson(4, 10).low, wilson(4, 10).high)


def test_a_judge_without_conflicts_has_no_direction():
    bias = position_bias(judge_pairs(FunctionJudge(longer), [pair(n) for n in range(5)]))
    assert (bias.rate.value, bias.p_value, bias.direction, bias.first_share.value) == (0.0, None, "none", None)
    assert position_bias([]).rate.value is None


def test_repeats_by_hand():
    spread = repeat_spread([judged(1, [1, 1, 0], [0, 0, 0])])
    # s² is 1/3 and 0, the chance that two draws differ 2/3 and 0.
    assert spread.variance.value == pytest.approx(1 / 6)
    assert spread.disagreement.value == pytest.approx(1 / 3)
    assert spread.draws == 3
    assert repeat_spread([judged(1, [1], [0])]).variance.value is None


def test_a_noisy_judge_shows_its_noise_and_its_score_is_the_mean_of_draws():
    def coin(question, draw):
        return float((draw + len(question.pair.item)) % 2 == (not question.swapped))

    found = judge_pairs(FunctionJudge(coin, temperature=1.0), [pair(1)], 4)
    assert found[0].score == 0.5
    assert repeat_spread(found).disagreement.value == pytest.approx(2 / 3)


def test_shares_of_clusters_are_wider_than_those_of_items():
    values = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0] * 3
    alone = share(values, range(36))
    together = share(values, [i // 3 for i in range(36)])
    assert (alone.low, alone.high) == (wilson(18, 36).low, wilson(18, 36).high)
    assert together.high - together.low > 1.5 * (alone.high - alone.low)
    # No spread: three clusters that agree are three trials, not nine, and no certainty.
    assert share([1.0] * 9, [i // 3 for i in range(9)]).low == pytest.approx(wilson(3, 3).low)
    assert share([], []).value is None


@given(st.lists(st.tuples(SHOWN, st.sampled_from("abc")), min_size=1, max_size=20))
def test_shares_stay_within_their_bounds(rows):
    values, units = zip(*rows, strict=True)
    found = share(values, units)
    assert found.value == pytest.approx(sum(values) / len(values))
    if found.low is not None:
        assert 0 <= found.low <= found.value + 1e-9
        assert found.value - 1e-9 <= found.high <= 1


def test_verdicts_become_outcomes_of_both_sides():
    found = judge_pairs(FunctionJudge(by_content), [pair(1, a="x", b="right", cluster="c", slices={"k": "v"})])
    found += [Judged(pair(2), (Verdict(None, "unscored"),), (Verdict(None, "unscored"),))]
    b = judged_outcomes(found, "run", "w")
    a = judged_outcomes(found, "run", "v", "a")
    assert [(one.score, one.status) for one in b] == [(1.0, "ok"), (None, "unscored")]
    assert (a[0].score, a[0].output, b[0].output) == (0.0, "x", "right")
    assert (b[0].metric_group, b[0].cluster, b[0].slices, b[0].better) == ("preference", "c", {"k": "v"}, "higher")
