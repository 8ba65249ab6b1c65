"""The runner: processes in turn, rows written as they end, what is missing measured again, and verdicts."""

import importlib
import inspect
import json
import math

import pytest

from benchmarks import results, suite
from benchmarks.jobs import JOBS, OURS, TARGETS, Job
from benchmarks.processes import PeerError, alone, in_turn, started
from benchmarks.trl_side import SETUPS


def result(values, memory=100, **rest):
    return {"values": values, "seconds": [1.0] * len(values), "peak_memory_bytes": memory, **rest}


def found_row(peer="trl", theirs=(1.0, 1.0, 1.0), ours=(5.0, 4.0, 9.0), **changes):
    job = Job("sft", "sft", "title", "tokens/s", 1, (peer,), takes_turns=True)
    one = results.row(job, peer, result(list(theirs), 400), result(list(ours), 100, operations=[8e9, 6e9, 7e9]))
    return {**one, **changes}


def test_a_ratio_is_the_median_of_pairs():
    row = found_row(theirs=(1.0, 2.0, 1.0), ours=(5.0, 4.0, 9.0))
    assert row["ratios"] == [5.0, 2.0, 9.0]
    assert row["ratio"] == 5.0
    assert row["memory_ratio"] == 0.25
    assert row["same_work"]


@pytest.mark.parametrize(
    ("theirs", "ours", "same"),
    [
        ({"numbers": {"loss": [1.0]}}, {"numbers": {"loss": [1.0005]}}, True),
        ({"numbers": {"loss": [1.0]}}, {"numbers": {"loss": [1.002]}}, False),
        ({"numbers": {"loss": [500.0]}}, {"numbers": {"loss": [500.2]}}, True),
        ({"numbers": {"loss": [1.0]}}, {"numbers": {}}, False),
        ({"numbers": {"loss": [1.0]}}, {"numbers": {"loss": [1.0, 1.0]}}, False),
        ({"numbers": {"loss": [math.nan]}}, {"numbers": {"loss": [1.0]}}, False),
        ({"work": {"tokens": 10}}, {"work": {"tokens": 11}}, False),
        ({"work": {"tokens": 10}}, {"work": {"tokens": 10}}, True),
    ],
)
def test_different_work_is_seen(theirs, ours, same):
    job = JOBS[0]
    row = results.row(job, "trl", result([1.0], **theirs), result([1.0], **ours))
    assert row["same_work"] is same


def test_targets_are_judged():
    record = {"matmul": [{"value": 8.0}, {"value": 10.0}], "rows": [found_row()], "failures": []}
    by_name = {one["what"]: one for one in results.judged(record)}
    assert by_name["SFT, against TRL's defaults"]["reached"] is True
    assert by_name["SFT, share of the matmul rate"]["value"] == pytest.approx(0.7)
    assert by_name["SFT, peak memory against TRL's defaults"]["value"] == 0.25
    assert by_name["SFT, against TRL with the same allocator setting"]["reached"] is None
    slow = {**record, "rows": [found_row(ours=(4.0, 4.0, 4.0))]}
    assert {one["what"]: one for one in results.judged(slow)}["SFT, against TRL's defaults"]["reached"] is False


def test_a_row_of_different_work_reaches_nothing():
    record = {"matmul": [{"value": 10.0}], "rows": [found_row(same_work=False)], "failures": []}
    assert all(one["reached"] is None for one in results.judged(record))


def test_a_job_may_be_stricter_than_the_suite(monkeypatch):
    from benchmarks import sft

    job, numbers = JOBS[0], {"numbers": {"loss": [1.0]}}
    other = {"numbers": {"loss": [1.0005]}}
    assert results.row(job, "trl", result([1.0], **numbers), result([1.0], **other))["same_work"]
    monkeypatch.setattr(sft, "TOLERANCE", 1e-4, raising=False)
    assert not results.row(job, "trl", result([1.0], **numbers), result([1.0], **other))["same_work"]


def test_of_several_peers_the_fastest_counts():
    target = results.Target("both", "sft", "ratio", 3.0, ("a", "b"))
    rows = [found_row(peer="a", ratio=4.0), found_row(peer="b", ratio=2.0)]
    assert results._judged({"matmul": [], "rows": rows}, target)["value"] == 2.0
    assert results._judged({"matmul": [], "rows": rows[:1]}, target)["value"] is None


def test_every_target_names_a_row_that_a_job_makes():
    peers = {job.name: job.peers for job in JOBS}
    for target in TARGETS:
        assert set(target.peers) <= set(peers[target.job]), target


def test_every_job_has_sizes_and_a_module_that_knows_its_peers():
    for job in JOBS:
        module = importlib.import_module(f"benchmarks.{job.module}")
        assert set(job.peers) <= set(getattr(module, "SETUPS", SETUPS)), job.name
        wanted = set(inspect.signature(module.run).parameters) - {"peer", "steps", "gate"}
        assert set(job.size(quick=True)) == set(job.size(quick=False)) == wanted, job.name


def test_runs_of_a_peer_are_joined():
    runs = [{"value": value, "seconds": 1.0, "peak_memory_bytes": value, "work": {"a": 1}} for value in (3, 5, 4)]
    joined = results.joined(runs)
    assert joined["values"] == [3, 5, 4]
    assert joined["peak_memory_bytes"] == 5
    assert joined["work"] == {"a": 1}


def test_going_on_needs_the_same_settings():
    new = results.new_results(3, quick=False)
    assert results.refuse_other(new, new) is None
    assert "repeats" in results.refuse_other({**new, "settings": {**new["settings"], "repeats": 5}}, new)
    other = {**new, "environment": {**new["environment"], "commit": "other"}}
    assert "commit" in results.refuse_other(other, new)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "results.json"


@pytest.fixture
def measured(monkeypatch):
    """The suite with its measurements replaced; tells which pairs were measured."""
    calls = []

    def fake_in_turn(job, peer, _sizes, repeats):
        calls.append((job.name, peer))
        if peer == "trl, same allocator" and calls.count((job.name, peer)) == 1 and fake_in_turn.stops:
            raise KeyboardInterrupt
        yield peer, result([1.0] * repeats)
        yield OURS, result([5.0] * repeats)

    fake_in_turn.stops = False
    monkeypatch.setattr(suite, "in_turn", fake_in_turn)
    monkeypatch.setattr(suite, "measure_limit", lambda _quick: {"value": 100.0})
    return calls, fake_in_turn


def test_a_stopped_run_keeps_its_rows_and_goes_on(measured, file):
    calls, fake = measured
    fake.stops = True
    arguments = ["--only", "dpo", "--repeats", "2", "--output", str(file)]
    with pytest.raises(KeyboardInterrupt):
        suite.main(arguments)
    assert [row["peer"] for row in json.loads(file.read_text())["rows"]] == ["trl"]
    assert suite.main([*arguments, "--resume"]) == 0
    assert calls == [("dpo", "trl"), ("dpo", "trl, same allocator"), ("dpo", "trl, same allocator")]
    record = json.loads(file.read_text())
    assert [row["peer"] for row in record["rows"]] == ["trl", "trl, same allocator"]
    assert record["finished"] == ["dpo"]
    calls.clear()
    assert suite.main([*arguments, "--resume"]) == 0
    assert calls == []


def test_without_resume_it_begins_anew(measured, file):
    calls, _ = measured
    arguments = ["--only", "dpo", "--output", str(file)]
    suite.main(arguments)
    suite.main(arguments)
    assert calls == [("dpo", "trl"), ("dpo", "trl, same allocator")] * 2
    assert len(json.loads(file.read_text())["rows"]) == 2


def test_other_settings_cannot_be_resumed(measured, file, capsys):
    suite.main(["--only", "dpo", "--output", str(file)])
    with pytest.raises(SystemExit) as stopped:
        suite.main(["--only", "dpo", "--repeats", "2", "--resume", "--output", str(file)])
    assert stopped.value.code == 2
    assert "repeats was 3, and is 2" in capsys.readouterr().err


def test_unknown_jobs_are_refused(file, capsys):
    with pytest.raises(SystemExit):
        suite.main(["--only", "dop", "--output", str(file)])
    assert "unknown jobs: dop" in capsys.readouterr().err


def test_a_failed_job_is_told_and_the_others_go_on(measured, file, monkeypatch, capsys):
    _, fake = measured

    def failing(job, peer, sizes, repeats):
        if job.name == "dpo":
            raise PeerError("trl: out of memory")
        yield from fake(job, peer, sizes, repeats)

    monkeypatch.setattr(suite, "in_turn", failing)
    assert suite.main(["--only", "dpo,reward", "--json", "--output", str(file)]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["failures"] == [{"job": "dpo", "error": "trl: out of memory"}]
    assert record["finished"] == ["reward"]


def test_different_work_is_a_failure(measured, file, monkeypatch):
    def different(_job, peer, _sizes, repeats):
        yield peer, result([1.0] * repeats, work={"tokens": 1})
        yield OURS, result([5.0] * repeats, work={"tokens": 2})

    monkeypatch.setattr(suite, "in_turn", different)
    assert suite.main(["--only", "reward", "--output", str(file)]) == 1


def test_a_process_stops_after_every_step(tiny_folder):
    sizes = {"model": tiny_folder, "batch": 1, "max_length": 2048, "steps": 2}
    with started("sft", OURS, sizes, turns=True) as process:
        for _ in range(2):
            assert process.hear() == {"step": True}
            process.go()
        assert len(process.hear()["result"]["values"]) == 1


@pytest.mark.slow
def test_two_processes_take_turns(tiny_folder):
    """Two real children on the tiny model, step by step."""
    job = Job("sft", "sft", "title", "tokens/s", 1, ("trl",), takes_turns=True)
    found = dict(in_turn(job, "trl", {"model": tiny_folder, "batch": 1, "max_length": 2048}, 2))
    row = results.row(job, "trl", found["trl"], found[OURS])
    assert row["same_work"]
    assert len(row["ratios"]) == 2
    assert row["their_memory_bytes"] > 0


def test_a_failing_process_says_why():
    with pytest.raises(PeerError, match="is not a model folder"):
        alone(
            Job("scaling", "operators", "title", "s", 1),
            OURS,
            {"model": "/nowhere", "batch": 1, "max_length": 9, "operators": 1},
        )


def test_small_sizes_and_some_jobs_do_not_replace_the_record(measured, file, capsys):
    with pytest.raises(SystemExit):
        suite.main(["--quick"])
    assert "--quick needs an --output" in capsys.readouterr().err
    suite.main(["--only", "dpo", "--output", str(file)])
    with pytest.raises(SystemExit):
        suite.main(["--only", "reward", "--output", str(file)])
    assert "holds dpo too" in capsys.readouterr().err
