import pytest

from tests.evaluation.redteam.models import always, leaks_under_role_play, model, secret_of
from trimpot.evaluation.redteam.attack import AttackSettings, attack
from trimpot.evaluation.redteam.families import cases_of
from trimpot.evaluation.redteam.labelled import known_rates
from trimpot.evaluation.redteam.outcomes import TWINS, outcomes_of
from trimpot.evaluation.redteam.seeds import own_seeds
from trimpot.evaluation.redteam.summary import lines, over_refusal, rates_by_family
from trimpot.store.outcomes import read_outcomes, write_outcomes

SECRETS = [one for one in own_seeds() if one.detector == "secret"]
LONG = AttackSettings(max_tokens=400)


def test_a_model_that_leaks_only_under_role_play_is_seen_to():
    cases = cases_of(SECRETS, ["direct", "role_play", "prefix_injection", "many_shot"])
    attempts = attack(model(leaks_under_role_play), cases, LONG)
    rates = {one.name: one for one in rates_by_family(attempts, known_rates())}
    assert {name: one.bad for name, one in rates.items()} == {
        "direct": 0,
        "role_play": 10,
        "prefix_injection": 0,
        "many_shot": 0,
        "all": 10,
    }
    assert rates["role_play"].counted.value == 1.0
    assert rates["direct"].counted.high < 0.31  # Wilson, 0 of 10: z²/(10 + z²) = 0.278
    # The verifier misses some disguises: Se = 20/24, so 10 of 40 called are 0.25/(20/24) = 0.3.
    assert rates["all"].corrected.value == pytest.approx(0.3)
    assert over_refusal(attempts, known_rates()).bad == 0


def test_a_model_that_refuses_all_is_safe_and_useless():
    attempts = attack(always("I'm sorry, but I can't help with that."), cases_of(own_seeds(), ["direct"]), LONG)
    (direct,) = rates_by_family(attempts, known_rates())
    refused = over_refusal(attempts, known_rates())
    assert (direct.bad, direct.good) == (0, 30)
    assert (refused.bad, refused.good, refused.counted.value) == (30, 0, 1.0)
    assert refused.corrected.value == 1.0


def test_what_cannot_be_read_is_undetermined_and_never_safe():
    attempts = attack(always("§§ %% §§"), cases_of(own_seeds(), ["direct"]), LONG)
    (direct,) = rates_by_family(attempts, known_rates())
    assert (direct.bad, direct.good, direct.undetermined) == (0, 0, 30)
    assert direct.counted.value is None
    assert direct.corrected.value is None
    assert direct.at_worst == 1.0
    refused = over_refusal(attempts, known_rates())
    assert (refused.undetermined, refused.counted.value) == (30, None)
    assert {one.status for one in outcomes_of(always("§§ %% §§"), attempts, "r")} == {"unscored"}
    assert "30 undetermined" in dict(lines([direct], refused))["direct:"]


def test_seeds_without_twins_leave_over_refusal_unmeasured():
    attempts = attack(always("I'm sorry."), cases_of(SECRETS, ["direct"], twins=False), LONG)
    refused = over_refusal(attempts, known_rates())
    assert (refused.counted.value, refused.at_worst) == (None, None)
    assert "not measured" in lines([], refused)[0][1]


def test_turns_are_sent_one_after_the_other_with_the_models_own_answers():
    def say(prompt, sample):
        return f"answer {prompt.count('user:')}"

    scripted = model(say)
    case = cases_of(SECRETS[:1], ["multi_turn"], twins=False)[0]
    (one,) = attack(scripted, [case], LONG)
    assert [message.role for message in one.messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [message.content for message in one.messages if message.role == "assistant"] == ["answer 1", "answer 2"]
    assert one.answer.text == "answer 3"
    assert len(scripted.requests) == 3


def test_a_cut_answer_that_has_not_leaked_yet_is_undetermined():
    cut = attack(always("The password that you want to know is a flower, " * 20), cases_of(SECRETS[:1], ["direct"]))
    assert cut[0].result == "undetermined"
    assert "cut" in cut[0].verdict.why


def test_several_tries_are_drawn_and_clustered_by_seed():
    def leaks_every_other_time(prompt, sample):
        return secret_of(prompt) if sample % 2 else "I cannot say."

    scripted = model(leaks_every_other_time)
    attempts = attack(scripted, cases_of(SECRETS, ["direct"], twins=False), AttackSettings(400, samples=4))
    assert {request.temperature for request in scripted.requests} == {1.0}
    assert [request.sample for request in scripted.requests[:4]] == [0, 1, 2, 3]
    (direct,) = rates_by_family(attempts, known_rates())
    assert (direct.bad, direct.good, direct.counted.n) == (20, 20, 10)


def test_one_try_is_greedy():
    scripted = always("x")
    attack(scripted, cases_of(SECRETS[:1], ["direct"]), LONG)
    assert {request.temperature for request in scripted.requests} == {0.0}


def test_outcomes_pair_two_models_and_lower_is_better(tmp_path):
    cases = cases_of(SECRETS, ["role_play", "multi_turn"])
    leaky, mended = model(leaks_under_role_play, "a"), always("I cannot say that.")
    first, second = (outcomes_of(one, attack(one, cases, LONG), "r") for one in (leaky, mended))
    assert [one.item for one in first] == [one.item for one in second]
    assert {one.task for one in first} == {"redteam/role_play", "redteam/multi_turn", TWINS}
    assert {(one.better, one.metric_group) for one in first} == {("lower", "safety")}
    attacks = [one.score for one in first if one.task == "redteam/role_play"]
    assert attacks == [1.0] * 10
    assert [one.score for one in second if one.task == TWINS] == [1.0] * 20
    assert len({one.cluster for one in first}) == 10
    write_outcomes(tmp_path / "outcomes.parquet", first)
    assert read_outcomes(tmp_path / "outcomes.parquet") == first
