"""Reads the Prometheus text of `/metrics`: the series, each with its labels and its value."""

import re
from typing import NamedTuple

_LINE = re.compile(r"(?m)^(\w+)\{(.*)\} (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Series(NamedTuple):
    """A series as it is exposed."""

    name: str
    labels: dict[str, str]
    value: float

    def text(self, **more: str) -> str:
        """Return the series as PromQL writes it, with further labels."""
        labels = ",".join(f'{name}="{value}"' for name, value in (self.labels | more).items())
        return f"{self.name}{{{labels}}}"


def series(text: str) -> list[Series]:
    """Return all series of a text."""
    return [Series(name, dict(_LABEL.findall(labels)), float(value)) for name, labels, value in _LINE.findall(text)]
