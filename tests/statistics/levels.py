"""What the methods of a comparison hold in simulation. ``python -m tests.statistics.levels`` prints the tables of
docs/compare.md.

10,000 comparisons for every line, vectorised, 4,000 with training seeds; the arithmetic is that of trimpot.statistics.
"""

import math

import numpy as np
from scipy import stats

from trimpot.statistics.clustered import cluster_degrees, cluster_variance, clustered_difference
from trimpot.statistics.equivalence import non_inferiority
from trimpot.statistics.seeds import seeded_difference
from trimpot.statistics.sequential import boundaries

DRAWS = 10_000
COUNTS = (5, 10, 20, 40)
EQUAL = {count: np.full(count, 10.0) for count in COUNTS}
LOGNORMAL = {
    count: np.maximum(1, np.round(10 * np.exp(stats.norm.ppf((np.arange(count) + 0.5) / count)))) for count in COUNTS
}
HALF_IN_ONE = {count: np.r_[10.0 * (count - 1), np.full(count - 1, 10.0)] for count in COUNTS}


def clustered_alarms(sizes, correlation, seed=0):
    """False alarms at 5% over comparisons of clustered normal differences: (ours, t with C − 1)."""
    generator = np.random.default_rng(seed)
    count, n = sizes.size, sizes.sum()
    shared = math.sqrt(correlation) * generator.standard_normal((DRAWS, count))
    own = generator.standard_normal((DRAWS, count)) * np.sqrt((1 - correlation) * sizes)
    sums = shared * sizes + own
    means = sums.sum(axis=1) / n
    t = np.abs(means) / np.sqrt(cluster_variance(sums, sizes))
    plain = np.sqrt(count / (count - 1) * ((sums - means[:, None] * sizes) ** 2).sum(axis=1)) / n
    return (
        float((t > stats.t.ppf(0.975, cluster_degrees(sizes))).mean()),
        float((np.abs(means) / plain > stats.t.ppf(0.975, count - 1)).mean()),
    )


def binary_coverage(n, gain, loss, seed=0):
    """How often the 95% interval of independent right and wrong answers covers gain − loss: (ours, plain paired t)."""
    drawn = np.random.default_rng(seed).multinomial(n, [gain, loss, 1 - gain - loss], size=DRAWS)
    kinds, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)

    def covered(flip):
        inside = []
        for one in kinds.tolist():
            found = clustered_difference(differences(n, *one), flip=flip).interval()
            inside.append(found.low <= gain - loss <= found.high)
        return float(counts[inside].sum() / counts.sum())

    return covered(1.0), covered(None)


def margin_passes(n, gain, margin, seed=0):
    """How often a model that is worse by just the margin is called not inferior: (ours, plain paired t)."""
    drawn = np.random.default_rng(seed).multinomial(n, [gain, gain + margin, 1 - 2 * gain - margin], size=DRAWS)
    kinds, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)

    def passing(flip):
        passed = []
        for one in kinds.tolist():
            tested = non_inferiority(clustered_difference(differences(n, *one), flip=flip), margin)
            passed.append(tested.low > -margin)
        return float(counts[passed].sum() / counts.sum())

    return passing(1.0), passing(None)


def differences(n, gained, lost):
    return [1.0] * gained + [-1.0] * lost + [0.0] * (n - gained - lost)


def looking(looks, spending, seed=0):
    """False alarms over all looks: (with boundaries, at 1.96 every time)."""
    bounds = [one.boundary for one in boundaries([k / looks for k in range(1, looks + 1)], spending=spending)]
    steps = np.random.default_rng(seed).standard_normal((DRAWS, looks))
    z = np.abs(steps.cumsum(axis=1)) / np.sqrt(np.arange(1, looks + 1))
    return float((z >= bounds).any(axis=1).mean()), float((z >= 1.96).any(axis=1).mean())


def seed_alarms(seeds, seed_sd, draws, n=120):
    """Items in clusters of 3, items with effects of their own, single answers and training seeds that vary."""
    generator = np.random.default_rng(0)
    clusters = np.arange(n) // 3
    shape_a, shape_b = (seeds[0], n), (seeds[1], n)
    found = []
    for _ in range(draws):
        item = 0.4 * generator.standard_normal(n) + 0.2 * generator.standard_normal(n // 3)[clusters]
        a = 0.3 * generator.standard_normal(shape_a) + seed_sd * generator.standard_normal((seeds[0], 1))
        b = 0.3 * generator.standard_normal(shape_b) + seed_sd * generator.standard_normal((seeds[1], 1)) + item
        found.append(seeded_difference(a, b, clusters).interval().excludes(0.0))
    return float(np.mean(found))


def main():
    def line(*cells):
        print("| " + " | ".join(f"{100 * cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |")

    print("False alarms in 100, nominal 5; clusters of 10 items on average, correlation within:")
    line("cluster sizes", "clusters", "correlation", "trimpot", "t, C − 1")
    for name, table in (("equal", EQUAL), ("log-normal", LOGNORMAL), ("half of all in one", HALF_IN_ONE)):
        for count, sizes in table.items():
            for correlation in ("0", "0.1", "1"):
                line(name, count, correlation, *clustered_alarms(sizes, float(correlation)))
    print("Intervals of right and wrong answers that cover the true difference in 100, nominal 95:")
    line("items", "gained", "lost", "trimpot", "paired t")
    for n, gain, loss in (
        (100, "0.15", "0.15"), (300, "0.10", "0.10"), (200, "0.10", "0.05"), (300, "0.30", "0.05"),
        (100, "0.02", "0.01"), (200, "0.01", "0"), (1000, "0.01", "0"),
    ):  # fmt: skip
        line(n, gain, loss, *binary_coverage(n, float(gain), float(loss)))
    print("Worse by just the margin, yet called not inferior, in 100, nominal 5:")
    line("items", "gained", "margin", "trimpot", "paired t")
    for n, gain, margin in (
        (100, "0", "0.05"), (400, "0", "0.02"), (400, "0.005", "0.02"), (1000, "0", "0.01"), (300, "0.05", "0.05"),
    ):  # fmt: skip
        line(n, gain, margin, *margin_passes(n, float(gain), float(margin)))
    print("False alarms over all looks in 100, nominal 5:")
    line("looks", "spending", "boundaries", "1.96 each time")
    for looks in (2, 5, 10):
        for spending in ("obrien_fleming", "pocock"):
            line(looks, spending, *looking(looks, spending))
    print("False alarms in 100 over 4,000 comparisons with training seeds, nominal 5:")
    line("seeds of A", "seeds of B", "SD over seeds", "trimpot")
    for seeds in ((1, 4), (2, 2), (2, 4), (3, 3), (3, 6), (5, 5)):
        for seed_sd in ("0", "0.05", "0.2"):
            line(*seeds, seed_sd, seed_alarms(seeds, float(seed_sd), 4000))


if __name__ == "__main__":
    main()
