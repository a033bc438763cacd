"""Answers that are fetched later, by requests that are no calls to a model themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from monitoring.integrations.attachment import Link
from monitoring.recorder import Recorder

from .usage import fields


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a request got."""

    link: Link
    recorder: Recorder
    provider: str
    url: str
    result: Any

    @property
    def told(self) -> Mapping[str, Any]:
        """Return the fields of the answer; of a raw one that nobody has read there are none."""
        response = getattr(self.result, "__dict__", {}).get("http_response")
        if response is None:
            return fields(self.result)
        return fields(orjson.loads(response.content)) if response.is_closed else {}


Note = Callable[[Fetched], None]


def noting(link: Link, provider: str, notes: Mapping[str, Note]) -> Callable[[Any, Any], Any]:
    """Return a function that looks at what a request got, and returns it.

    ``notes`` has what to do by the path before an object's id, or by the last part of the path.
    """

    def noted(options: Any, result: Any) -> Any:
        recorder = link.recorder()
        if recorder is None:
            return result
        try:
            url = str(options.url).partition("?")[0]
            path, _, last = url.rpartition("/")
            note = notes.get(path) or notes.get(last)
            if note is not None:
                note(Fetched(link, recorder, provider, url, result))
        except Exception as error:
            recorder.failed(f"{__name__}.noted", error)
        return result

    return noted
