"""``python -m monitoring.cli``."""

import sys

from . import main

sys.exit(main())
