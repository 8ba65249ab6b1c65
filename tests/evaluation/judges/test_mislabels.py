import json
import random

import numpy as np
import pytest

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message, PreferencePair
from trimpot.data.files import read_records
from trimpot.evaluation.judges.dynamics import mislabels_of_dynamics
from trimpot.evaluation.judges.mislabels import AumSettings, find_mislabels, margins, preference_mislabels

GOOD = ["thanks", "clear", "correct", "helpful", "precise", "sources", "careful", "steps", "honest", "complete"]
BAD = ["dunno", "whatever", "stupid", "wrong", "lazy", "maybe", "rude", "nonsense", "vague", "empty"]
NEUTRAL = [f"word{i}" for i in range(400)]
CROSSED = 0.15


def answer(rng, own, other):
    words = [rng.choice(NEUTRAL) for _ in range(rng.randint(8, 20))]
    words += [rng.choice(other if rng.random() < CROSSED else own) for _ in range(rng.randint(2, 4))]
    rng.shuffle(words)
    return " ".join(words)


def preferences(count, flips, seed):
    """Constructed pairs whose better answer words tell, some of them flipped: (pairs, which are flipped)."""
    rng = random.Random(seed)
    pairs, flipped = [], []
    for number in range(count):
        good, bad = answer(rng, GOOD, BAD), answer(rng, BAD, GOOD)
        flipped.append(rng.random() < flips)
        chosen, rejected = (bad, good) if flipped[-1] else (good, bad)
        turns = [(Message("assistant", text),) for text in (chosen, rejected)]
        pairs.append(PreferencePair((Message("user", f"question {number}"),), *turns))
    return pairs, np.array(flipped)


def found_and_planted(count, flips, seed):
    pairs, flipped = preferences(count, flips, seed)
    listed = np.zeros(count, bool)
    listed[list(preference_mislabels(pairs, AumSettings(seed=seed)).suspicious)] = True
    return listed, flipped


@pytest.mark.parametrize(("flips", "precision", "recall"), [(0.1, 0.65, 0.9), (0.2, 0.75, 0.9)])
def test_planted_mislabels_are_found_with_stated_precision_and_recall(flips, precision, recall):
    right = listed = planted = 0
    for seed in range(4):
        suspicious, flipped = found_and_planted(400, flips, seed)
        each = (suspicious & flipped).sum()
        assert each / flipped.sum() >= recall - 0.1
        right, listed, planted = right + each, listed + suspicious.sum(), planted + flipped.sum()
    print(f"{flips:.0%} flips: precision {right / listed:.2f}, recall {right / planted:.2f}")
    assert right / listed >= precision
    assert right / planted >= recall


def test_rows_without_a_fault_are_hardly_ever_listed():
    shares = [found_and_planted(400, 0.0, seed)[0].mean() for seed in range(4)]
    assert max(shares) < 0.06


def test_where_words_tell_nothing_no_row_is_listed():
    rng = random.Random(5)
    pairs = []
    for number in range(200):
        turns = [(Message("assistant", " ".join(rng.choices(NEUTRAL, k=12))),) for _ in range(2)]
        pairs.append(PreferencePair((Message("user", f"q{number}"),), *turns))
    found = preference_mislabels(pairs)
    assert found.suspicious == ()
    assert "words do not tell which is chosen" in found.note


def test_the_same_seed_gives_the_same_rows_and_the_most_suspicious_come_first():
    pairs, _ = preferences(120, 0.15, 0)
    one, other = preference_mislabels(pairs), preference_mislabels(pairs)
    assert one == other
    leads = [one.areas[i] for i in one.suspicious]
    assert leads == sorted(leads)
    assert leads[-1] <= one.cut == 0.0


def test_too_few_rows_are_refused_in_one_line():
    with pytest.raises(UsageError, match="rows: 59 are too few to find mislabels among"):
        preference_mislabels(preferences(59, 0, 0)[0])


def test_margins_by_hand():
    logits = [[[2.0, 5.0, 1.0], [0.0, 1.0, 4.0]], [[3.0, 1.0, 1.0], [2.0, 2.0, 2.0]]]
    assert margins(np.array(logits), np.array([0, 2])).tolist() == [[-3.0, 3.0], [2.0, 0.0]]
    with pytest.raises(ValueError, match="at least 2 classes"):
        margins(np.zeros((1, 2, 1)), np.array([0, 0]))
    with pytest.raises(ValueError, match="labels below 3"):
        margins(np.zeros((1, 2, 3)), np.array([0, 3]))


def test_the_cut_is_the_percentile_of_threshold_samples():
    found = find_mislabels([3, -1, 0.2], [-2, 0])
    assert found.cut == pytest.approx(-0.02)
    assert found.suspicious == (1,)
    with pytest.raises(ValueError, match="no threshold sample"):
        find_mislabels([1.0], [])


def dynamics(tmp_path, rows):
    file = tmp_path / "dynamics.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return mislabels_of_dynamics(read_records(str(file), "train"), str(file))


def test_mislabels_of_a_users_own_training(tmp_path):
    rows = [
        {"id": "good", "label": 0, "logits": [[1, 0, 0], [3, 0, 0]]},
        {"id": "bad", "label": 1, "logits": [[1, 0, 0], [3, 0, 0]]},
        {"id": "planted", "label": 2, "logits": [[1, 0, 0], [2, 0, 1]], "threshold": True},
    ]
    names, found = dynamics(tmp_path, rows)
    # Areas: (1 + 3)/2 = 2 and (−1 − 3)/2 = −2; the threshold sample's −1 is the cut.
    assert (names, found.areas, found.cut) == (["good", "bad"], (2.0, -2.0), -1.0)
    assert found.suspicious == (1,)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"label": 0, "logits": [[1, 2], [1, 2]]}, "2 epochs of 2 logits; the first row 1 epochs of 2"),
        ({"label": 2, "logits": [[1, 2]]}, "label 2 is none of the classes 0 to 1"),
        ({"label": 0, "logits": [1, 2]}, "logits is not a list of lists of numbers"),
        ({"label": 0, "logits": [[1, "x"]]}, "logits is not a list of lists of numbers"),
        ({"label": 0, "logits": [[1, None]]}, "logits"),
        ({"label": 0}, "logits is not a list of lists"),
    ],
)
def test_a_bad_row_of_logits_names_file_and_line(tmp_path, row, words):
    with pytest.raises(UsageError, match=rf"dynamics.jsonl:2: .*{words}|dynamics.jsonl:2: {words}"):
        dynamics(tmp_path, [{"label": 0, "logits": [[1, 2]]}, row])


def test_logits_without_threshold_samples_are_refused(tmp_path):
    with pytest.raises(UsageError, match="has no threshold sample"):
        dynamics(tmp_path, [{"label": 0, "logits": [[1, 2]]}])
