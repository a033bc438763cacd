"""The dashboard's JSON API: what is asked, what is answered, and the description of both by OpenAPI."""

from .endpoints import ENDPOINTS, Endpoint
from .query import BadQuery, Query

__all__ = ["ENDPOINTS", "BadQuery", "Endpoint", "Query"]
