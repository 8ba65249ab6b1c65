"""Every check catches its planted bug, and passes the clean stage that the bug was put into."""

from __future__ import annotations

import pytest

from tests.preflight import bench
from tests.preflight.bugs import BUGS, Bug
from trimpot.preflight.check import FAILED, NOT_APPLICABLE, PASSED
from trimpot.preflight.names import CHECK_IDS
from trimpot.preflight.run import run_checks
from trimpot.preflight.table import CHECKS


@pytest.mark.parametrize("kind", bench.STAGES)
@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_a_planted_bug_is_caught_by_its_check(bug: Bug, kind: str) -> None:
    with bug.plant(kind) as stage:
        (result,) = run_checks(stage, [CHECKS[bug.check]])
    assert result.status == FAILED, result.text
    assert not result.text.startswith("raised"), result.text


@pytest.mark.parametrize("scratch", [False, True], ids=["pretrained", "scratch"])
@pytest.mark.parametrize("kind", [*bench.STAGES, "reward"])
def test_a_clean_stage_passes_every_check(kind: str, scratch: bool) -> None:
    results = run_checks(bench.built(kind, scratch=scratch), list(CHECKS.values()))
    assert [(one.check, one.text) for one in results if one.status not in (PASSED, NOT_APPLICABLE)] == []
    other = {one.check for one in results if one.status == NOT_APPLICABLE}
    meant = {"zeroed_input"} if scratch else set()
    if kind == "reward":
        meant = {"zeroed_input", "rollout_trainer"}
    assert other == meant


def test_every_check_has_a_planted_bug_and_its_words() -> None:
    assert {bug.check for bug in BUGS} == set(CHECK_IDS) == set(CHECKS)
    for check in CHECKS.values():
        assert check.what.endswith("?")
        assert check.mend.endswith(".")
        assert check.rule
        assert 0 < check.seconds <= 300
        assert not (check.thorough and check.rows_only)
