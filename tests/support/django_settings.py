"""Django's settings, which can be configured once per process: tests override what they need."""

from __future__ import annotations

import django
from django.conf import settings


def set_up() -> None:
    """Configure Django, unless it is."""
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            SECRET_KEY="secret-of-the-test",
            LOGGING_CONFIG=None,
        )
        django.setup()
