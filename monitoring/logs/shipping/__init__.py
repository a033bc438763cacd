"""Lines to receivers in the network: in batches, tried again, kept on disk while a receiver is away."""

from .limits import Limits
from .loki import Loki
from .otlp import OTLP
from .syslog import Syslog

__all__ = ["OTLP", "Limits", "Loki", "Syslog"]
