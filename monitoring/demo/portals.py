"""The funders' submission portals. Most have a fault of their own, so that the demo has errors worth grouping."""

from __future__ import annotations

import random
import secrets

GUIDELINES_DOWN_SHARE = 0.15


class Refused(Exception):
    """The funder does not take the proposal; `status` is the HTTP status that says so to the client."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class PortalError(Exception):
    """The portal is down, or broke off in the middle of a submission."""


def submit(funder: str, title: str) -> str:
    """Hand a proposal in and return the funder's receipt.

    Raise Refused when the funder does not take it, and anything else when its portal has a bad day.
    """
    bad_day = random.random() < 0.3
    match funder:
        case "NIH":
            answer = {"status": "queued"} if bad_day else {"status": "taken", "receipt": _receipt(funder)}
            return answer["receipt"]
        case "DFG":
            months = 0 if bad_day else 36
            return f"{_receipt(funder)}-{250_000 // months}"
        case "Gates" if bad_day:
            _lose_connection()
        case "ERC" if bad_day:
            raise Refused(409, "the call closed yesterday")
        case "Wellcome" if len(title) > 40:
            raise Refused(422, f"the title has {len(title)} characters; this funder takes 40 at most")
    return _receipt(funder)


def guidelines(funder: str) -> str:
    """Return what the funder wants to read. Raise PortalError when its portal is down."""
    if random.random() < GUIDELINES_DOWN_SHARE:
        raise PortalError(f"the portal of {funder} is down for maintenance")
    return f"{funder} wants a plan of three years, a budget, and open data."


def _lose_connection() -> None:
    try:
        raise ConnectionResetError("connection reset by peer")
    except ConnectionResetError as error:
        raise PortalError("the portal hung up before it gave a receipt") from error


def _receipt(funder: str) -> str:
    return f"{funder}-{secrets.token_hex(4)}"
