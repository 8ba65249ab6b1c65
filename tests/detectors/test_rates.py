"""Measured rates: intervals by hand, files that come back as they were, tampering named, stale thresholds not valid."""

import dataclasses
import json

import pytest

from trimpot.core.errors import UsageError
from trimpot.detectors import DETECTORS
from trimpot.detectors.page import HEADINGS, NOT_MEASURED, detectors_page, docstring_parts
from trimpot.detectors.rates import DetectorRate, rates_of, read_rate, settings_of, write_rate


def rate(**changes):
    values = {
        "detector": "kl_blow_up", "lab": "kl-blow-up", "fault": "no KL term and a large rate", "fired": 19, "runs": 20,
        "clean_fired": 0, "clean_runs": 20, "threshold_seeds": (100, 101), "seeds": tuple(range(20)),
        "settings": settings_of("kl_blow_up"), "conditions": {"model": "tiny-0.1m", "steps": 40},
    }  # fmt: skip
    return DetectorRate(**{**values, **changes})


def test_intervals_by_hand():
    # Wilson at 0 of 20: from 0 to z²/(n + z²) = 3.841/23.841 = 0.161.
    false_alarm = rate().false_alarm
    assert (false_alarm.value, false_alarm.low, round(false_alarm.high, 3)) == (0.0, 0.0, 0.161)
    true_positive = rate().true_positive
    assert (true_positive.value, round(true_positive.low, 3), round(true_positive.high, 3)) == (0.95, 0.764, 0.991)
    assert rate(fired=0, runs=0).true_positive.value is None


def test_it_comes_back_as_it_was(tmp_path):
    path = write_rate(rate(), tmp_path)
    assert path.name == "kl_blow_up.kl-blow-up.json"
    assert read_rate(path) == rate()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(("old", "new"), [('"fired": 19', '"fired": 20'), ("tiny-0.1m", "tiny-1m")])
def test_tampering_is_found_and_named(tmp_path, old, new):
    path = write_rate(rate(), tmp_path)
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(UsageError, match="changed after it was written") as raised:
        read_rate(path)
    assert raised.value.where == str(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"content_hash": "0"}'])
def test_what_is_no_rate_is_named(tmp_path, text):
    path = tmp_path / "kl_blow_up.lab.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"kl_blow_up\.lab\.json"):
        read_rate(path)


@pytest.mark.parametrize("change", ["extra", "missing"])
def test_other_fields_are_of_another_version(tmp_path, change):
    from trimpot.core.hashing import content_hash

    path = write_rate(rate(), tmp_path)
    content = json.loads(path.read_text())
    del content["content_hash"]
    if change == "extra":
        content["extra"] = 1
    else:
        del content["seeds"]
    path.write_text(json.dumps({"content_hash": content_hash(content), **content}))
    with pytest.raises(UsageError, match="another version"):
        read_rate(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"detector": "kl_blowup"}, "Did you mean 'kl_blow_up'"),
        ({"fired": 21}, "more runs fired"),
        ({"clean_fired": -1}, "more runs fired"),
        ({"threshold_seeds": (3, 100)}, r"seeds \[3\] chose the thresholds"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(UsageError, match=words):
        rate(**changes)


def test_rates_of_a_detector_by_lab(tmp_path):
    for lab in ("b", "a"):
        write_rate(rate(lab=lab), tmp_path)
    write_rate(rate(detector="kl_negative", settings=settings_of("kl_negative")), tmp_path)
    assert [found.lab for found in rates_of("kl_blow_up", tmp_path)] == ["a", "b"]
    assert rates_of("loss_spike", tmp_path) == []
    assert rates_of("loss_spike", tmp_path / "absent") == []


def test_a_rate_holds_for_the_thresholds_it_was_measured_with(tmp_path):
    assert read_rate(write_rate(rate(), tmp_path)).is_current
    assert not rate(settings={**settings_of("kl_blow_up"), "threshold": 1.0}).is_current


def test_settings_are_all_fields_of_the_detector():
    for name, kind in DETECTORS.items():
        assert settings_of(name) == dataclasses.asdict(kind())


def test_the_shipped_rates_can_be_read():
    for name in DETECTORS:
        for found in rates_of(name):
            assert found.detector == name


def table_row(page, name):
    return next(line for line in page.splitlines() if line.startswith(f"| [{name}]"))


def test_the_page_has_a_row_and_a_section_of_every_detector(tmp_path):
    page = detectors_page(tmp_path)
    for name, kind in DETECTORS.items():
        row = table_row(page, name)
        assert row.replace("\\|", "").count("|") == 9
        assert row.count(NOT_MEASURED) == 2
        assert all(f"`{metric}`" in row for metric in kind().metrics)
        section = page.split(f"## {name}\n")[1].split("\n## ")[0]
        assert all(f"- {heading}: " in section for heading in HEADINGS)
        assert f"- Rates: {NOT_MEASURED}." in section
        assert kind().card in section
    assert page == detectors_page(tmp_path)


def test_the_page_shows_rates_with_their_intervals(tmp_path):
    write_rate(rate(), tmp_path)
    page = detectors_page(tmp_path)
    row = table_row(page, "kl_blow_up")
    assert "kl-blow-up: 95% of 20 runs (76% to 99%)" in row
    assert "kl-blow-up: 0% of 20 runs (0% to 16%)" in row
    assert "fault: no KL term and a large rate" in page
    assert table_row(page, "kl_negative").count(NOT_MEASURED) == 2


def test_the_page_does_not_show_rates_of_other_thresholds(tmp_path):
    write_rate(rate(settings={"threshold": 1.0}), tmp_path)
    page = detectors_page(tmp_path)
    assert table_row(page, "kl_blow_up").count(NOT_MEASURED) == 2
    assert "measured with other thresholds" in page


def test_fields_in_the_text_are_shown_by_their_values():
    parts = docstring_parts(DETECTORS["truncated_completions"]())
    assert parts["What"] == "mean of completions/clipped_ratio over the last 5 steps."
    for kind in DETECTORS.values():
        text = " ".join(docstring_parts(kind()).values())
        assert all(f"`{field.name}`" not in text for field in dataclasses.fields(kind))
