"""The HTTP methods that become a label: those of RFC 9110, PATCH and QUERY; every other is ``_OTHER``."""

from typing import Final

OTHER_METHOD: Final = "_OTHER"

METHODS: Final[dict[str | None, str]] = {
    None: "GET",
    **{
        method: method
        for method in ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
    },
}
