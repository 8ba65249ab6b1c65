"""The jobs without a peer: what they measure and in what form."""

import pytest

from benchmarks import matmul, operators, scaling, startup

pytestmark = pytest.mark.usefixtures("allocator_untouched")


def test_matmul_takes_the_best_shape():
    found = matmul.run("torch", seconds=0.01, shapes=((64, 64, 64), (128, 64, 32)))
    assert found["value"] == max(found["details"]["shapes"].values()) > 0
    assert set(found["details"]["shapes"]) == {"64 x 64 x 64", "128 x 64 x 32"}


def test_startup_counts_every_call_but_the_first():
    found = startup.run("trimpot", times=1)
    assert found["details"]["seconds"] == [found["value"]]
    assert found["value"] < found["seconds"]


def test_scaling_has_a_point_for_every_size(tiny_folder):
    found = scaling.run(
        "trimpot", tiny_folder, lengths=(16, 32), tokens=32, batches=(1, 2), batch_length=16, groups=(1, 3),
        new_tokens=4,
    )  # fmt: skip
    curves = found["details"]
    assert [point["length"] for point in curves["length"]] == [16, 32]
    assert [point["batch"] for point in curves["batch"]] == [1, 2]
    assert [point["group"] for point in curves["group"]] == [1, 3]
    rates = [value for curve in curves.values() for point in curve for value in point.values()]
    assert min(rates) > 0


def test_operators_add_up_to_the_step(tiny_folder):
    found = operators.run("trimpot", tiny_folder, batch=2, max_length=2048, operators=5)
    lines = found["details"]["operators"]
    assert len(lines) == 7
    assert sum(line["share"] for line in lines) == pytest.approx(1.0, abs=0.05)
    named = [line["seconds"] for line in lines[:5]]
    assert named == sorted(named, reverse=True)
    assert any("mm" in line["operator"] for line in lines[:5])
