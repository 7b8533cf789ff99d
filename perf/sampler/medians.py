"""Medians with an interval that assumes nothing about the distribution: the order statistics that
enclose it with at least 95 % confidence. With fewer than six values, the whole range."""

import collections
import math

Median = collections.namedtuple("Median", "value low high count")


def median(values):
    """None without values."""
    ordered = sorted(v for v in values if v is not None and math.isfinite(v))
    n = len(ordered)
    if n == 0:
        return None
    cut = _cut(n)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return Median(middle, ordered[cut], ordered[n - 1 - cut], n)


def _cut(n):
    """Values that may be left out at each end: the interval from the k-th to the k-th last value
    misses the median if fewer than k of n coin tosses are heads, or fewer than k are tails."""
    below = 0.0
    for k in range(n // 2):
        below += math.comb(n, k) * 0.5**n
        if below > 0.025:
            return max(k - 1, 0)
    return 0


def line(name, values, unit, digits=2):
    """One line of a summary."""
    m = median(values)
    if m is None:
        return f"  {name:<34} not measured\n"
    numbers = f"{m.value:>11.{digits}f}  [{m.low:.{digits}f} .. {m.high:.{digits}f}]"
    return f"  {name:<34}{numbers} {unit} (n={m.count})\n"


def verdict(name, values, bar, unit="x"):
    """A line that says whether the median of `values` is at most `bar`."""
    m = median(values)
    if m is None:
        return f"  {name:<34} not measured, bar {bar:g} {unit}\n"
    said = "MET" if m.value <= bar else "MISSED"
    if m.low <= bar < m.high:
        said += " by the median, the bar lies inside the interval"
    numbers = f"{m.value:>11.2f}  [{m.low:.2f} .. {m.high:.2f}] {unit} (n={m.count})"
    return f"  {name:<34}{numbers}, bar {bar:g}: {said}\n"


def _check():
    assert median(range(1, 16)) == (8, 4, 12, 15)
    assert median([3, 1]) == (2, 1, 3, 2)
    assert median([]) is None
    assert median([1, 2, 3, 4, 5, 6])[1:3] == (1, 6)


_check()
