"""What a metric is, in a form that every process of the service can read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from . import scale

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

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
        return json.dumps({**{name: getattr(self, name) for name in known}, "limits": dict(self.limits)}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Declaration:
        """Return the declaration of a record's text. Raise ValueError, TypeError or KeyError where it is none."""
        known: dict[str, Any] = json.loads(text)
        declaration = cls(**{**known, "labels": tuple(known["labels"]), "le": tuple(known["le"])})
        if not declaration._is_sound():
            raise ValueError(f"{declaration} is no declaration of a metric.")
        return declaration

    def adds_up_with(self, other: Declaration) -> bool:
        """Say whether the cells of both mean the same: releases of one app may differ."""
        ours, theirs = ((one.kind, one.labels, one.unit, one.le, one.merge) for one in (self, other))
        return ours == theirs

    def _is_sound(self) -> bool:
        return (
            self.kind in get_args(Kind)
            and self.merge in get_args(Merge)
            and self.unit in scale.UNITS
            and isinstance(self.help, str)
            and all(isinstance(name, str) and _NAME.fullmatch(name) for name in (self.name, *self.labels))
            and list(self.le) == sorted({float(bound) for bound in self.le})
            and isinstance(self.limits, Mapping)
        )
