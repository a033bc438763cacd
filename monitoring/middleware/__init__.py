"""The edges: one pure ASGI middleware and its WSGI twin. They make observations and know no sink."""

from .asgi import MonitoringMiddleware
from .edge import RECORD_KEY, Edge, HasEdge, OwnApp, set_current_edge
from .inbound import InboundPolicy
from .wsgi import WSGIMonitoringMiddleware

__all__ = [
    "RECORD_KEY",
    "Edge",
    "HasEdge",
    "InboundPolicy",
    "MonitoringMiddleware",
    "OwnApp",
    "WSGIMonitoringMiddleware",
    "set_current_edge",
]
