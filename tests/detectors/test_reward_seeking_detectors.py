"""over_optimisation, reward_hacking, length_exploitation, length_growth: noise, direction, scale, gaps."""

import random

import pytest

from trimpot.detectors.length_exploitation import LengthExploitation
from trimpot.detectors.length_growth import LengthGrowth
from trimpot.detectors.over_optimisation import OverOptimisation
from trimpot.detectors.reward_hacking import RewardHacking
from trimpot.detectors.watch import Watcher
from trimpot.detectors.windows import make_window

NAN = float("nan")


def line(start, stop, steps, noise=0.0, seed=0):
    draw = random.Random(seed)
    return [start + (stop - start) * step / (steps - 1) + draw.gauss(0, noise) for step in range(steps)]


def fired(detector, **series):
    """The number of steps at which it spoke."""
    window = make_window(**series)
    watcher = Watcher((detector,))
    names = [name for name in window if name != "step"]
    rows = [{name: window[name][place] for name in names} for place in range(len(window["step"]))]
    return sum(len(watcher.observe(place, row)) for place, row in enumerate(rows, start=1))


def over(gold, proxy):
    return OverOptimisation().scan(make_window(held_out__gold=gold, held_out__proxy=proxy))


def test_gold_falls_while_the_proxy_rises():
    finding = over(line(0.6, 0.3, 30, 0.03), line(0.3, 0.9, 30, 0.03, 1))
    assert finding.metric == "held_out/gold"
    assert finding.value > 3


def test_the_scale_of_the_proxy_does_not_matter():
    assert over(line(0.6, 0.3, 30, 0.03), line(-300.0, 900.0, 30, 30, 1))


def test_each_half_of_the_condition_alone_is_silent():
    assert over(line(0.6, 0.3, 30), [0.5] * 30) is None
    assert over([0.5] * 30, line(0.3, 0.9, 30)) is None
    assert over(line(0.3, 0.6, 30), line(0.3, 0.9, 30)) is None
    assert over(line(0.6, 0.3, 30), line(0.9, 0.3, 30)) is None


def test_over_optimisation_needs_fifteen_common_values_up_to_the_newest_step():
    gold, proxy = line(0.6, 0.3, 15), line(0.3, 0.9, 15)
    assert over(gold, proxy)
    assert over(gold[1:], proxy[1:]) is None
    assert over([*gold, None], [*proxy, 0.9]) is None
    gaps = [value for pair in zip(gold, [NAN] * 15, strict=True) for value in pair][:-1]
    assert over(gaps, [value for pair in zip(proxy, proxy, strict=True) for value in pair][:-1])


def test_a_slow_fall_shows_in_a_long_window():
    gold, proxy = line(0.6, 0.5, 120, 0.05), line(0.3, 0.6, 120, 0.05, 1)
    assert over(gold[-15:], proxy[-15:]) is None
    assert over(gold, proxy)


@pytest.mark.parametrize("seed", range(10))
def test_noise_and_common_rise_are_silent(seed):
    level = line(0.3, 0.6, 60, 0.06, seed)
    proxy = [value + noise for value, noise in zip(level, line(0.1, 0.1, 60, 0.03, seed + 100), strict=True)]
    assert fired(OverOptimisation(), held_out__gold=level, held_out__proxy=proxy) == 0
    assert fired(RewardHacking(), held_out__gold=level, held_out__proxy=proxy) == 0
    flat = {"held_out__gold": line(0.4, 0.4, 60, 0.06, seed), "held_out__proxy": line(0.4, 0.4, 60, 0.06, seed + 100)}
    assert fired(OverOptimisation(), **flat) == 0
    assert fired(RewardHacking(), **flat) == 0


def hacking(gold, proxy):
    return RewardHacking().scan(make_window(held_out__gold=gold, held_out__proxy=proxy))


def test_the_proxy_rises_and_gold_never_did():
    finding = hacking([0.1] * 20, line(0.1, 0.9, 20))
    assert finding.value > 0.2
    assert hacking(line(0.1, 0.0, 20), line(0.1, 0.9, 20))
    assert hacking(line(0.1, 0.6, 20), line(0.1, 0.9, 20)) is None
    assert hacking([0.1] * 20, [0.1] * 10 + [0.3] * 10) is None
    assert hacking([0.1] * 20, [0.1] * 10 + [0.31] * 10)


def test_reward_hacking_compares_shares_only():
    assert hacking([0.1] * 20, line(0.1, 1.9, 20)) is None
    assert hacking([-0.1] * 20, line(0.1, 0.9, 20)) is None


def test_reward_hacking_is_not_sure_of_a_gold_that_is_all_noise():
    # Gold may have risen as much as the proxy for all these ten values can tell.
    assert hacking([0.0, 1.0, 0.0, 0.0, 1.0] * 2, [0.1] * 5 + [0.5] * 5) is None


def test_reward_hacking_needs_ten_common_values():
    assert hacking([0.1] * 10, [0.1] * 5 + [0.9] * 5)
    assert hacking([0.1] * 9, [0.1] * 4 + [0.9] * 5) is None
    assert hacking([0.1] * 10 + [None], [0.1] * 5 + [0.9] * 6) is None


def exploitation(length, reward, gold):
    return LengthExploitation().scan(make_window(completions__mean_length=length, reward=reward, held_out__gold=gold))


def test_length_and_reward_grow_and_gold_does_not():
    length, reward, gold = line(20, 40, 30), line(0.2, 0.8, 30), line(0.3, 0.3, 30, 0.02)
    assert exploitation(length, reward, gold).value > 1.2
    assert exploitation(length, reward, line(0.3, 0.6, 30)) is None
    assert exploitation(length, [0.5] * 30, gold) is None
    assert exploitation(line(20, 22, 30), reward, gold) is None
    assert exploitation(line(40, 20, 30), reward, gold) is None
    assert exploitation(length, reward, [None] * 30) is None
    assert exploitation(length[:14], reward[:14], gold[:14]) is None


def growth(length, longest=64.0, cut=(0.0, 0.2)):
    steps = len(length)
    return LengthGrowth().scan(
        make_window(
            completions__mean_length=length,
            completions__max_length=[longest] * steps,
            completions__clipped_ratio=line(*cut, steps),
        )
    )


def test_length_grows_towards_the_limit():
    assert growth(line(20, 60, 20)).message.endswith("of at most 64, and the share cut from 7% to 18%")
    assert growth(line(20, 60, 20), cut=(0.0, 0.0)) is None
    assert growth(line(20, 60, 20), cut=(0.1, 0.1)) is None
    assert growth(line(5, 15, 20)) is None
    assert growth([60.0] * 20) is None
    assert growth(line(60, 40, 20)) is None
    assert growth(line(20, 60, 14)) is None
    assert growth([*line(20, 60, 20), NAN]) is None


def test_growth_within_the_noise_is_silent():
    draw = random.Random(0)
    assert growth([40 + draw.gauss(0, 20) for _ in range(30)]) is None
