"""The metrics page of a subject, read as Prometheus text."""

import re
import urllib.error
import urllib.request

_LINE = re.compile(r'^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)')
_LE = re.compile(r'le="([^"]+)"')


class Page:
    """What a page said at one time."""

    def __init__(self, text):
        self.samples = []
        for row in text.splitlines():
            found = _LINE.match(row)
            if found:
                name, labels, value = found.groups()
                self.samples.append((name, labels or "", float(value)))

    def total(self, name, label=""):
        """Sum over all labels, or over those that hold `label`. None if it is not on the page;
        names are taken with and without `_total`."""
        found = [v for n, l, v in self.samples if n in (name, name + "_total") and label in l]
        return sum(found) if found else None

    def most(self, name):
        """The largest over all labels."""
        return max((v for n, _, v in self.samples if n == name), default=None)

    def buckets(self, name):
        """Cumulated counts by upper bound, summed over the other labels."""
        out = {}
        for n, labels, value in self.samples:
            bound = _LE.search(labels)
            if n == name + "_bucket" and bound:
                key = float(bound.group(1))
                out[key] = out.get(key, 0) + value
        return out


def read(port):
    """The page now; an empty one if it cannot be had."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return Page(answer.read().decode())
    except (OSError, urllib.error.URLError):
        return Page("")
