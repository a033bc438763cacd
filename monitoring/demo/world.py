"""Who lives in the demo: the funders, the users with the funders they write to, and what they write about."""

from __future__ import annotations

from dataclasses import dataclass

USER_HEADER = "x-demo-user"
"""The header, or the cookie, that says who asks."""
TRAFFIC_HEADER = "x-demo-traffic"
"""The header that the traffic generator marks its requests with."""


@dataclass(frozen=True, slots=True)
class Funder:
    """A body that gives grants."""

    id: str
    name: str
    focus: str


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who writes proposals, most of them to the funders named first."""

    id: str
    name: str
    funders: tuple[str, ...]


FUNDERS = (
    Funder("NSF", "National Science Foundation", "fundamental research"),
    Funder("NIH", "National Institutes of Health", "biomedical research"),
    Funder("ERC", "European Research Council", "frontier research"),
    Funder("DFG", "Deutsche Forschungsgemeinschaft", "all disciplines"),
    Funder("Wellcome", "Wellcome Trust", "health and disease"),
    Funder("Gates", "Gates Foundation", "global health"),
)

USERS = (
    User("ada", "Ada Okafor", ("NSF", "DFG")),
    User("bruno", "Bruno Keller", ("DFG", "ERC")),
    User("chen", "Chen Li", ("NSF", "NIH")),
    User("dalia", "Dalia Haddad", ("Gates", "Wellcome")),
    User("emeka", "Emeka Obi", ("Gates", "NIH")),
    User("freya", "Freya Lund", ("ERC", "Wellcome")),
    User("goran", "Goran Ilic", ("ERC", "DFG")),
    User("hana", "Hana Sato", ("NIH", "NSF")),
    User("ines", "Ines Moreau", ("ERC", "Gates")),
    User("jonas", "Jonas Weber", ("DFG", "NSF")),
    User("kavya", "Kavya Rao", ("Wellcome", "NIH")),
    User("luis", "Luis Ortega", ("NSF", "Gates")),
)

TOPICS = (
    "soil microbes", "sea ice", "malaria vaccines", "quantum sensors", "battery recycling", "urban heat",
    "protein folding", "coral reefs", "rare diseases", "groundwater", "speech therapy", "crop resilience",
)  # fmt: skip

SEEDED_PROPOSALS = 300
AIMS = ("a field study", "an open data set", "a clinical pilot", "a new instrument", "training of young researchers")
