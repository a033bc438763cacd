"""What a metric is, in a form that every process of the service can read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

OTHER: Final = "(other)"
"""The label value under which everything past a cap is counted."""

Kind = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "max", "min"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What a metric is: its name, type, help, label names, exposed bounds, and how gauges of several processes
    merge.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = "seconds"
    """The scale of a histogram: ``seconds`` or ``quantity``."""
    le: tuple[float, ...] = ()
    merge: Merge = "sum"
    limits: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Values kept per label where the default does not fit."""

    def to_json(self) -> bytes:
        """Return the declaration as the text of its record, for processes that do not know the metric."""
        known = ("name", "kind", "help", "labels", "unit", "le", "merge")
        return json.dumps({name: getattr(self, name) for name in known}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Declaration:
        """Return the declaration of a record's text."""
        known: dict[str, Any] = json.loads(text)
        return cls(**{**known, "labels": tuple(known["labels"]), "le": tuple(known["le"])})
