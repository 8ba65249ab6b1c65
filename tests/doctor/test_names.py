"""Names of other loggers, and where TRL logs what we ask for."""

import inspect
import re

import pytest

from trimpot.detectors import DETECTORS
from trimpot.doctor.checks import CHECKS, CONFIGS, RATE
from trimpot.doctor.logged import EVERY, LOGGED, how_to_log
from trimpot.doctor.names import ALIASES, UNLIKE, our_name, rename, watched_metrics


def test_every_alias_leads_to_a_metric_that_a_detector_reads():
    known = set(watched_metrics())
    assert {one.ours for one in (*ALIASES, *UNLIKE)} <= known
    theirs = [one.theirs for one in (*ALIASES, *UNLIKE)]
    assert len(set(theirs)) == len(theirs)
    assert not known & set(theirs)
    assert all(one.source for one in (*ALIASES, *UNLIKE))


@pytest.mark.parametrize(
    ("column", "ours"),
    [
        ("loss", "loss"),
        ("train/loss", "loss"),
        ("train/rewards/accuracies", "rewards/accuracies"),
        ("train_loss", "loss"),
        ("train/train_loss", None),
        ("eval_loss", None),
        ("eval/rewards/accuracies", None),
        ("objective/scores", "reward"),
        ("train/objective/scores", "reward"),
        ("objective/kl", None),
        ("critic/score/mean", "reward"),
        ("response_length/clip_ratio", "completions/clipped_ratio"),
        ("epoch", None),
    ],
)
def test_a_column_is_read_as(column, ours):
    assert our_name(column) == ours


def test_of_two_columns_the_surer_is_taken():
    assert rename(["train_loss", "train/loss", "loss"]).names == {"loss": "loss"}
    assert rename(["train_loss", "train/loss"]).names == {"loss": "train/loss"}
    assert rename(["train_loss", "train_runtime"]).names == {}


def test_a_metric_of_another_unit_is_named_and_not_read():
    found = rename(["objective/kl", "objective/scores"])
    assert found.names == {"reward": "objective/scores"}
    assert "per token" in found.unlike["objective/kl"]
    assert rename(["objective/kl", "kl"]).unlike == {}


def test_every_metric_of_a_detector_says_how_it_is_logged():
    for name in watched_metrics():
        assert name in LOGGED or how_to_log(name) != name
    assert "every trainer of TRL logs it with logging_steps=1" in how_to_log("loss")
    assert "TRL does not log it" in how_to_log("held_out/gold")
    assert how_to_log("held_out/gold", in_trimpot=True).endswith("in which it can be measured")
    assert "probes: [health]" in how_to_log("health/update_ratio")


def sources(trainer):
    # A trainer logs its own metrics; loss and gradient norm are transformers'.
    import transformers
    import trl

    return inspect.getsource(inspect.getmodule(getattr(trl, trainer))) + inspect.getsource(
        inspect.getmodule(transformers.Trainer)
    )


@pytest.mark.parametrize("trainer", EVERY)
def test_trl_logs_what_the_table_says(trainer):
    text = sources(trainer)
    logged = set(re.findall(r'(?:_metrics\[\w+\]|_metrics\["train"\]|logs)\["([^"]+)"\]', text))
    named = {name for name, one in LOGGED.items() if trainer in one.trainers}
    assert named <= logged, named - logged
    if trainer != "KTOTrainer":  # KTO's kl is another: of the batch, per answer
        absent = {name for name, one in LOGGED.items() if trainer not in one.trainers}
        assert not absent & logged


def test_trl_has_the_settings_that_the_tables_name():
    import trl

    fields = {config: set(getattr(trl, config).__dataclass_fields__) for config in CONFIGS.values()}
    for one in CHECKS.values():
        for name in one.in_trl:
            configs = [name.partition(".")[0]] if "." in name else list(fields)
            assert all(name.rpartition(".")[2] in fields[config] for config in configs), name
    assert set(RATE) <= set.intersection(*fields.values())
    configs = {"GRPOTrainer": "GRPOConfig", "RLOOTrainer": "RLOOConfig", "SFTTrainer": "SFTConfig"}
    for one in LOGGED.values():
        for setting in one.settings:
            known = getattr(trl, configs[one.trainers[0]]).__dataclass_fields__
            assert re.split(r"[= ]", setting)[0] in known, setting


def test_the_table_of_checks_names_detectors_that_there_are():
    assert sorted(CHECKS.keys() - DETECTORS.keys()) == []
