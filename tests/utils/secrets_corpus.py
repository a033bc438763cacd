"""Secrets in the places where real systems print them, and look-alikes that must stay.

The templates are in ``secrets_corpus_*.txt``, one a line: ``kind | template``. In a template ``<<name>>`` is a secret
and ``<name>`` is not; both are made by the method of ``Made`` of that name. ``⏎`` is a new line. A template that begins
with ``=`` is JSON for a value that is scrubbed as a tree, every other one is a text.
"""

from __future__ import annotations

import base64
import json
import random
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
BASE62 = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
HOLE = re.compile(r"<<(\w+)>>|<(\w+)>")
SHORTEST_PART = 5
"""Characters of a secret in a row that must not survive."""

WORDS = [
    "summer",
    "winter",
    "river",
    "castle",
    "orange",
    "falcon",
    "marble",
    "copper",
    "thunder",
    "meadow",
    "violet",
    "harbor",
    "walnut",
    "comet",
    "tiger",
    "velvet",
    "pepper",
    "saddle",
    "glacier",
    "lantern",
]
PEOPLE = [
    "ada",
    "grace",
    "alan",
    "edsger",
    "barbara",
    "donald",
    "radia",
    "leslie",
    "frances",
    "katherine",
    "vint",
    "margaret",
]
SURNAMES = [
    "lovelace",
    "hopper",
    "turing",
    "dijkstra",
    "liskov",
    "knuth",
    "perlman",
    "lamport",
    "allen",
    "johnson",
    "cerf",
    "hamilton",
]
HOSTS = [
    "db-1",
    "cache.prod",
    "api",
    "web-03",
    "localhost",
    "10.4.2.17",
    "pg.eu-west-1.rds.amazonaws.com",
    "mq.internal",
]


@dataclass(frozen=True, slots=True)
class Case:
    """A value, and the secrets in it; a look-alike has none."""

    kind: str
    template: str
    value: Any
    secrets: tuple[str, ...]
    bare: str
    """The text around the secrets."""

    def leaked(self, scrubbed: Any) -> str:
        """Return a part of a secret that is still in ``scrubbed`` and stands nowhere else, or ""."""
        text = scrubbed if isinstance(scrubbed, str) else json.dumps(scrubbed, ensure_ascii=False)
        for secret in self.secrets:
            for start in range(max(1, len(secret) - SHORTEST_PART + 1)):
                part = secret[start : start + SHORTEST_PART]
                if part in text and part not in self.bare:
                    return part
        return ""


def cases(name: str, seed: int, rounds: int) -> list[Case]:
    """Fill every template of a file ``rounds`` times, with values of ``seed``."""
    made = Made(seed)
    return [_case(kind, template, made) for _ in range(rounds) for kind, template in templates(name)]


def templates(name: str) -> Iterator[tuple[str, str]]:
    """Read the templates of one file."""
    for line in (FOLDER / f"secrets_corpus_{name}.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            kind, template = line.split(" | ", 1)
            yield kind, template.replace("⏎", "\n")


def _case(kind: str, template: str, made: Made) -> Case:
    secrets: list[str] = []
    text = bare = ""
    done = 0
    for hole in HOLE.finditer(template):
        before, done = template[done : hole.start()], hole.end()
        name = hole[1] or hole[2]
        value = hole[0] if not hole[1] and not hasattr(made, name) else str(getattr(made, name)())
        text += before + value
        bare += before if hole[1] else before + value
        if hole[1]:
            secrets.append(value)
    text += template[done:]
    return Case(
        kind, template, json.loads(text[1:]) if text.startswith("=") else text, tuple(secrets), bare + template[done:]
    )


class Made:
    """Values as real systems make them, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def _of(self, alphabet: str, length: int) -> str:
        return "".join(self._random.choices(alphabet, k=length))

    def _pick(self, *choices: str) -> str:
        return self._random.choice(choices)

    def _number(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def _base64(self, size: int) -> str:
        return base64.b64encode(self._random.randbytes(size)).decode()

    def _base64url(self, size: int) -> str:
        return base64.urlsafe_b64encode(self._random.randbytes(size)).decode().rstrip("=")

    # Passwords

    def pw(self) -> str:
        return self._pick(self.pw_word(), self.pw_random(), self.pw_plain(), self.pw_symbols())

    def pw_word(self) -> str:
        word = self._random.choice(WORDS)
        return self._pick(word, word.title()) + str(self._number(10, 9999)) + self._pick("", "!", "#", "$", "?", "*")

    def pw_plain(self) -> str:
        return self._random.choice(WORDS) + self._random.choice(WORDS)

    def pw_random(self) -> str:
        return self._of(BASE62, self._number(8, 24))

    def pw_symbols(self) -> str:
        return self._of(BASE62, 4) + self._of("!#$%^*+-_=.~", 2) + self._of(BASE62, 5)

    def pw_url(self) -> str:
        return self._pick(self.pw_random(), self.pw_plain(), self._of(BASE62, 5) + "%40" + self._of(BASE62, 4))

    def pw_phrase(self) -> str:
        return " ".join(self._random.sample(WORDS, 4))

    def digits4(self) -> str:
        return self._of(string.digits, 4)

    def digits6(self) -> str:
        return self._of("123456789", 1) + self._of(string.digits, 5)

    # Random material

    def hex32(self) -> str:
        return self._of(HEX, 32)

    def hex40(self) -> str:
        return self._of(HEX, 40)

    def hex64(self) -> str:
        return self._of(HEX, 64)

    def base62(self) -> str:
        return self._of(BASE62, self._number(24, 44))

    def b64(self) -> str:
        return self._base64(self._number(18, 50))

    def b64url(self) -> str:
        return self._base64url(self._number(20, 48))

    def basic(self) -> str:
        return base64.b64encode(f"{self.user()}:{self.pw()}".encode()).decode()

    def jwt(self) -> str:
        head = {"alg": self._pick("HS256", "RS256", "ES256"), "typ": "JWT"}
        body = {"sub": self.user(), "iat": self._number(1_600_000_000, 1_800_000_000), "aud": self.host()}
        parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (head, body)]
        return ".".join([*parts, self._base64url(self._number(32, 64))])

    def pem_body(self) -> str:
        return "\n".join(self._of(BASE62 + "+/", 64) for _ in range(self._number(3, 9)))

    def pem_escaped(self) -> str:
        return self.pem_body().replace("\n", "\\n")

    # Tokens of services

    def github(self) -> str:
        return self._pick(
            f"gh{self._pick(*'pousr')}_{self._of(BASE62, 36)}",
            f"github_pat_{self._of(BASE62, 22)}_{self._of(BASE62, 59)}",
        )

    def gitlab(self) -> str:
        return self._pick("glpat-", "gldt-", "glrt-", "glptt-") + self._of(BASE62 + "_-", 20)

    def slack(self) -> str:
        team = self._of(string.digits, 12)
        return f"{self._pick('xoxb', 'xoxp', 'xoxa-2', 'xoxr')}-{team}-{team[::-1]}-{self._of(BASE62, 24)}"

    def slack_app(self) -> str:
        app = self._of(string.ascii_uppercase + string.digits, 10)
        return f"xapp-1-A{app}-{self._number(10**12, 10**13)}-{self.hex64()}"

    def slack_hook(self) -> str:
        big = string.ascii_uppercase + string.digits
        return f"T{self._of(big, 8)}/B{self._of(big, 10)}/{self._of(BASE62, 24)}"

    def stripe(self) -> str:
        return f"{self._pick('sk', 'rk')}_{self._pick('live', 'test')}_{self._of(BASE62, self._pick24())}"

    def _pick24(self) -> int:
        return self._random.choice((24, 99))

    def stripe_hook(self) -> str:
        return f"whsec_{self._of(BASE62, 32)}"

    def openai(self) -> str:
        return self._pick("sk-", "sk-proj-", "sk-svcacct-") + self._of(BASE62, 20) + "T3BlbkFJ" + self._of(BASE62, 20)

    def anthropic(self) -> str:
        return f"sk-ant-{self._pick('api03', 'admin01')}-{self._of(BASE62 + '_-', 93)}AA"

    def huggingface(self) -> str:
        return f"hf_{self._of(string.ascii_letters, 34)}"

    def sendgrid(self) -> str:
        return f"SG.{self._of(BASE62 + '_-', 22)}.{self._of(BASE62 + '_-', 43)}"

    def twilio(self) -> str:
        return f"SK{self.hex32()}"

    def npm(self) -> str:
        return f"npm_{self._of(BASE62, 36)}"

    def pypi(self) -> str:
        return f"pypi-AgEIcHlwaS5vcmc{self._of(BASE62 + '_-', self._number(90, 150))}"

    def docker(self) -> str:
        return f"dckr_{self._pick('pat', 'oat')}_{self._of(BASE62 + '_-', 27)}"

    def telegram(self) -> str:
        return f"{self._number(10**8, 10**10)}:AA{self._of(BASE62 + '_-', 33)}"

    def discord(self) -> str:
        user = base64.b64encode(str(self._number(10**17, 10**18)).encode()).decode().rstrip("=")
        return f"{user}.{self._of(BASE62 + '_-', 6)}.{self._of(BASE62 + '_-', 38)}"

    def discord_hook(self) -> str:
        return self._of(BASE62 + "_-", 68)

    def aws_id(self) -> str:
        return self._pick("AKIA", "ASIA") + self._of(string.ascii_uppercase + "234567", 16)

    def aws_secret(self) -> str:
        return self._of(BASE62 + "+/", 40)

    def aws_session(self) -> str:
        return "IQoJb3JpZ2luX2VjE" + self._of(BASE62 + "+/", 200) + "=="

    def google(self) -> str:
        return f"AIza{self._of(BASE62 + '_-', 35)}"

    def google_oauth(self) -> str:
        return f"ya29.{self._of(BASE62 + '_-', self._number(60, 140))}"

    def google_secret(self) -> str:
        return f"GOCSPX-{self._of(BASE62 + '_-', 28)}"

    def azure_key(self) -> str:
        return self._base64(64)

    def azure_secret(self) -> str:
        return f"{self._of(BASE62, 3)}8Q~{self._of(BASE62 + '_-.~', 34)}"

    def azure_sig(self) -> str:
        return self._base64(32).replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")

    def digitalocean(self) -> str:
        return f"dop_v1_{self.hex64()}"

    def shopify(self) -> str:
        return f"{self._pick('shpat', 'shpss', 'shpca')}_{self.hex32()}"

    def square(self) -> str:
        return f"sq0{self._pick('atp', 'csp')}-{self._of(BASE62 + '_-', 22)}"

    def mailgun(self) -> str:
        return f"key-{self.hex32()}"

    def mailchimp(self) -> str:
        return f"{self.hex32()}-us{self._number(1, 21)}"

    def postman(self) -> str:
        return f"PMAK-{self._of(HEX, 24)}-{self._of(HEX, 34)}"

    def linear(self) -> str:
        return f"lin_api_{self._of(BASE62, 40)}"

    def notion(self) -> str:
        return f"ntn_{self._of(BASE62, 46)}"

    def vault(self) -> str:
        return f"hv{self._pick('s', 'b')}.{self._of(BASE62 + '_-', 90)}"

    def databricks(self) -> str:
        return f"dapi{self.hex32()}"

    def grafana(self) -> str:
        return f"glsa_{self._of(BASE62, 32)}_{self._of(HEX, 8)}"

    def newrelic(self) -> str:
        return f"NRAK-{self._of(string.ascii_uppercase + string.digits, 27)}"

    def atlassian(self) -> str:
        return f"ATATT3xFfGF0{self._of(BASE62 + '_-', 170)}={self._of(HEX, 8).upper()}"

    def groq(self) -> str:
        return f"gsk_{self._of(BASE62, 52)}"

    def replicate(self) -> str:
        return f"r8_{self._of(BASE62, 37)}"

    def terraform(self) -> str:
        return f"{self._of(BASE62, 14)}.atlasv1.{self._of(BASE62, 67)}"

    def age_key(self) -> str:
        return f"AGE-SECRET-KEY-1{self._of('QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L', 58)}"

    def rubygems(self) -> str:
        return f"rubygems_{self._of(HEX, 48)}"

    # Cards and people

    def _card(self, prefix: str, length: int) -> str:
        body = prefix + self._of(string.digits, length - len(prefix) - 1)
        return body + next(digit for digit in string.digits if luhn(body + digit))

    def visa(self) -> str:
        return self._card("4", 16)

    def mastercard(self) -> str:
        return self._card(self._pick("51", "52", "53", "54", "55", "2221", "2400", "2719"), 16)

    def amex(self) -> str:
        return self._card(self._pick("34", "37"), 15)

    def discover(self) -> str:
        return self._card(self._pick("6011", "644", "65"), 16)

    def diners(self) -> str:
        return self._card(self._pick("36", "38", "300"), 14)

    def card(self) -> str:
        return self._pick(self.visa(), self.mastercard(), self.amex(), self.discover())

    def card_spaced(self) -> str:
        return _grouped(self._pick(self.visa(), self.mastercard(), self.discover()), " ")

    def card_dashed(self) -> str:
        return _grouped(self._pick(self.visa(), self.mastercard(), self.discover()), "-")

    def amex_spaced(self) -> str:
        number = self.amex()
        return f"{number[:4]} {number[4:10]} {number[10:]}"

    def email(self) -> str:
        person, surname = self._random.choice(PEOPLE), self._random.choice(SURNAMES)
        local = self._pick(f"{person}.{surname}", person + str(self._number(1, 99)), f"{person}+{surname}", surname)
        return f"{local}@{self._pick('example.org', 'mail.example.co.uk', 'acme-corp.com', 'uni.edu', 'gmx.de')}"

    def ssn(self) -> str:
        return f"{self._number(101, 665)}-{self._number(10, 99)}-{self._number(1000, 9999)}"

    def user(self) -> str:
        return self._random.choice(PEOPLE)

    def person(self) -> str:
        return f"{self.user().title()} {self._random.choice(SURNAMES).title()}"

    # What is no secret

    def uuid(self) -> str:
        text = self.hex32()
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{self._pick(*'89ab')}{text[17:20]}-{text[20:]}"

    def sha(self) -> str:
        return self.hex40()

    def sha7(self) -> str:
        return self._of(HEX, 7)

    def span(self) -> str:
        return self._of(HEX, 16)

    def ulid(self) -> str:
        return "01" + self._of("0123456789ABCDEFGHJKMNPQRSTVWXYZ", 24)

    def nanoid(self) -> str:
        return self._of(BASE62 + "_-", 21)

    def iso(self) -> str:
        day = f"2026-{self._number(1, 12):02}-{self._number(1, 28):02}"
        return f"{day}T{self._number(0, 23):02}:{self._number(0, 59):02}:{self._number(0, 59):02}Z"

    def iso_micro(self) -> str:
        return self.iso()[:-1] + f".{self._number(0, 999999):06}+00:00"

    def epoch(self) -> int:
        return self._number(1_600_000_000, 1_900_000_000)

    def epoch_ms(self) -> int:
        return self.epoch() * 1000 + self._number(0, 999)

    def epoch_ns(self) -> int:
        return self.epoch() * 10**9 + self._number(0, 10**9 - 1)

    def snowflake(self) -> int:
        return self._number(10**17, 15 * 10**17)

    def order(self) -> str:
        """A number as long as a card's which is none: its check digit is wrong."""
        number = self._card(self._pick("4", "51", "37", "6011", "9", "1"), 16)
        return number[:-1] + str((int(number[-1]) + self._number(1, 9)) % 10)

    def number(self) -> int:
        return self._number(1, 99_999)

    def small(self) -> int:
        return self._number(1, 99)

    def float(self) -> str:
        return f"{self._random.random() * 1000:.{self._number(1, 6)}f}"

    def ratio(self) -> str:
        return repr(self._random.random())

    def status(self) -> str:
        return self._pick("200", "201", "301", "404", "422", "500", "503")

    def version(self) -> str:
        return f"{self._number(0, 20)}.{self._number(0, 40)}.{self._number(0, 99)}"

    def ip(self) -> str:
        return ".".join(str(self._number(1, 254)) for _ in range(4))

    def ipv6(self) -> str:
        return ":".join(self._of(HEX, 4) for _ in range(8))

    def mac(self) -> str:
        return ":".join(self._of(HEX, 2) for _ in range(6))

    def port(self) -> int:
        return self._number(1024, 65535)

    def host(self) -> str:
        return self._random.choice(HOSTS)

    def word(self) -> str:
        return self._random.choice(WORDS)

    def path(self) -> str:
        return (
            f"/srv/{self.word()}/{self.word()}_{self.small()}/{self.word()}.{self._pick('py', 'json', 'log', 'tar.gz')}"
        )

    def route(self) -> str:
        return f"/{self.word()}/{self.number()}/{self.word()}"

    def address(self) -> str:
        return f"0x7f{self._of(HEX, 10)}"

    def phone(self) -> str:
        return f"+{self._number(1, 99)} {self._number(100, 999)} {self._number(1000000, 9999999)}"

    def isbn(self) -> str:
        return f"978{self._of(string.digits, 10)}"

    def image(self) -> str:
        return self._base64(self._number(60, 240))

    def digest(self) -> str:
        return self.hex64()

    def bytes_size(self) -> int:
        return self._number(1000, 10**9)


def luhn(digits: str) -> bool:
    """Add the digits up as the makers of cards do."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _grouped(number: str, between: str) -> str:
    return between.join(number[start : start + 4] for start in range(0, len(number), 4))
