"""What an exporter shows, by Prometheus' own reading of it."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

Series = list[tuple[dict[str, str], float]]


class Scrapes:
    """Of one exporter, asked anew each time."""

    def __init__(self, url: str) -> None:
        self._url = url

    def of(self, name: str, **labels: str) -> Series:
        """The samples of that name that have these labels."""
        with urllib.request.urlopen(self._url, timeout=10) as answer:
            text = answer.read().decode()
        samples = (one for family in text_string_to_metric_families(text) for one in family.samples)
        return [
            (dict(one.labels), one.value)
            for one in samples
            if one.name == name and labels.items() <= one.labels.items()
        ]

    def sum(self, name: str, **labels: str) -> float:
        return sum(number for _, number in self.of(name, **labels))
