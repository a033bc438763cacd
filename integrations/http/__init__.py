"""HTTP clients: one observation per request that leaves, reported at the end of its response's body."""

from .exchange import url_template

__all__ = ["url_template"]
