"""The cost of the live noise probe: counted per look, divided by its interval."""

import pytest

from benchmarks import noise_scale
from trimpot.probes.noise_scale_live import EVERY


@pytest.mark.usefixtures("allocator_untouched")
def test_the_job_measures_both_kinds_of_steps_for_every_length(tiny_folder):
    found = noise_scale.run("trimpot", model=tiny_folder, batch=4, lengths=(16, 200), looks=2)
    assert [point["length"] for point in found["details"]["length"]] == [16, 200]
    assert found["work"] == {"steps": 12}
    assert found["value"] == max(point["share"] for point in found["details"]["length"])
    assert all(point["looked_seconds"] > 0 and point["plain_seconds"] > 0 for point in found["details"]["length"])


def test_the_share_is_the_cost_of_a_look_by_the_interval():
    found = noise_scale._shares([1.3, 1.0, 1.2, 1.0, 9.0, 1.0])
    assert found["looked_seconds"] == 1.3
    assert found["share"] == pytest.approx(0.3 / EVERY)
