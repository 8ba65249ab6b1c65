"""The cost of the live health probe: counted per look, divided by its interval."""

import pytest

from benchmarks import health
from trimpot.probes.health import EVERY


@pytest.mark.usefixtures("allocator_untouched")
def test_the_job_measures_both_kinds_of_steps(tiny_folder):
    found = health.run("trimpot", model=tiny_folder, batch=4, length=16, looks=2)
    assert found["work"] == {"steps": 6}
    assert found["value"] == found["details"]["share"]
    assert found["details"]["looked_seconds"] > 0 < found["details"]["plain_seconds"]


def test_the_share_is_the_cost_of_a_look_by_the_interval():
    found = health._shares([1.3, 1.0, 1.2, 1.0, 9.0, 1.0])
    assert found["looked_seconds"] == 1.3
    assert found["share"] == pytest.approx(0.3 / EVERY)
