"""The page: whole, without scripts, and text of the log escaped."""

import math

from trimpot.doctor.examine import examine
from trimpot.doctor.log import RawLog, clean
from trimpot.doctor.page import POINTS, thin, write_page


def log_of(losses, where="log.csv"):
    return clean(RawLog(where, "CSV", [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]))


def test_a_page_has_the_curve_and_what_was_not_checked(tmp_path):
    losses = [2.0] * 20 + [9.0] + [2.0] * 20
    found = examine(log_of(losses, "<script>alert(1)</script>.csv"))
    write_page(tmp_path / "page.html", [found, examine(log_of([2.0 - 0.01 * step for step in range(40)]))])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 1
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "1. loss_spike" in page
    assert "healthy as far as" in page
    assert "end_tokens_per_sequence is not in the log" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/", "")


def test_a_long_curve_keeps_its_spike_and_its_gap():
    losses = [1.0] * 5000
    losses[1234], losses[3000] = 9.0, math.nan
    points = thin(log_of(losses), "loss")
    assert len(points) <= POINTS + 1
    assert (1235, 9.0) in points
    assert any(value is None for _, value in points)
    assert [step for step, _ in points] == sorted(step for step, _ in points)
