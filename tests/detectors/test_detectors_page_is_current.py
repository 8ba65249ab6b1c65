"""docs/detectors.md is what tools/detector_rates.py makes of the detectors and their rates."""

from pathlib import Path

from trimpot.detectors import DETECTORS
from trimpot.detectors.page import detectors_page
from trimpot.detectors.rates import rates_of

WITHOUT_A_LAB = {"update_ratio", "nonfinite_activations", "dead_units"}
"""They read the live health probe, which no run of the failure labs has; the page says "not measured" of them."""
PAGE = Path(__file__).parents[2] / "docs" / "detectors.md"


def test_the_page_is_current():
    assert PAGE.read_text() == detectors_page(), "run: python tools/detector_rates.py"


def test_every_detector_has_a_rate_of_its_present_thresholds():
    assert all(not rates_of(name) for name in WITHOUT_A_LAB)
    for name in DETECTORS.keys() - WITHOUT_A_LAB:
        assert any(rate.is_current for rate in rates_of(name)), name
