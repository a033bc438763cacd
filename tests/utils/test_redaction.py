"""Scrubbing: secrets go by the name of their field and by their look, and everything else stays as it is."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from monitoring.utils.redaction import (
    DEFAULT,
    DEPTH,
    FIELD_RULES,
    SIZE,
    TOO_DEEP,
    TOO_MUCH,
    VALUE_RULES,
    WIDTH,
    FieldRule,
    Scrubber,
    ValueRule,
    passes_luhn,
    scrub,
    scrub_text,
)

SECRET = "hunter2"
NOW = datetime(2026, 11, 24, tzinfo=UTC)
DOCS = Path(__file__).parents[2] / "docs" / "scrubbing.md"
NAMES_BY_RULE = {
    "password": (
        *(
            "password",
            "passwd",
            "pwd",
            "pass",
            "dbPass",
            "mailpass",
            "passphrase",
            "pass_code",
            "otp",
            "pin",
            "PassWord",
        ),
        *("Passwort", "Kennwort", "motDePasse", "contraseña", "contrasena", "senha", "wachtwoord", "user_pass"),
    ),
    "secret": ("secret", "clientSecrets"),
    "token": ("token", "jwt", "idToken"),
    "key": ("apiKey", "access_key", "SIGNING_KEY", "webhookkeys"),
    "private key": ("private_key", "privatekey"),
    "authorization": ("Authorization", "auth", "http_auth", "credential", "AuthHeader"),
    "cookie": ("cookie", "Set-Cookies"),
    "session": ("session", "sessionKey", "sid", "PHPSESSID"),
    "csrf": ("csrf", "XSRF"),
    "ssn": ("ssn", "SocialSecurityNumber"),
    "card": ("creditCard", "card_no", "CVV2", "cvc", "debit_card"),
}


# By the name of the field


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("password", "password"),
        ("db_password", "password"),
        ("userPassword", "password"),
        ("dbpassword", "password"),
        ("PASSWD", "password"),
        ("client_secret", "secret"),
        ("SECRET_KEY", "secret"),
        ("access_token", "token"),
        ("accesstoken", "token"),
        ("auth-token", "token"),
        ("x-api-key", "key"),
        ("apikey", "key"),
        ("apiKey", "key"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("privateKey", "private key"),
        ("Authorization", "authorization"),
        ("HTTP_AUTHORIZATION", "authorization"),
        ("proxyAuthorization", "authorization"),
        ("Set-Cookie", "cookie"),
        ("sessionid", "session"),
        ("session", "session"),
        ("csrfmiddlewaretoken", "token"),
        ("X-CSRFToken", "token"),
        ("csrf", "csrf"),
        ("ssn", "ssn"),
        ("creditCard", "card"),
        ("card_number", "card"),
        ("author", ""),
        ("secretary", ""),
        ("compass", ""),
        ("assn", ""),
        ("monkey", ""),
        ("obsession", ""),
        ("passenger", ""),
        ("name", ""),
    ],
)
def test_a_field_is_scrubbed_by_the_segments_of_its_name(name: str, rule: str) -> None:
    """Whatever the spelling; a word that only contains one of them is not touched."""
    assert scrub({name: SECRET}) == {name: f"[scrubbed: {rule}]" if rule else SECRET}


@pytest.mark.parametrize("value", [SECRET, 1234, 12.5, b"x", ["a", "b"], {"a": 1}, object()])
def test_whatever_stands_under_a_secret_name_goes(value: Any) -> None:
    """A text, a number or a whole tree."""
    assert scrub({"password": value}) == {"password": "[scrubbed: password]"}


@pytest.mark.parametrize(
    "fields",
    [
        {"password": None},
        {"has_password": True},
        {"max_tokens": 400},
        {"input_tokens": 12},
        {"session_count": 3},
        {"password_length": 8},
    ],
)
def test_nothing_and_measures_are_no_secrets(fields: dict[str, Any]) -> None:
    """None, yes and no, and numbers that are named as a measure stay."""
    assert scrub(fields) == fields


def test_a_text_under_the_name_of_a_measure_still_goes() -> None:
    """Only its number is harmless."""
    assert scrub({"tokens": ["a"], "session_total": "x"}) == {
        "tokens": "[scrubbed: token]",
        "session_total": "[scrubbed: session]",
    }


def test_pairs_are_fields_too() -> None:
    """Headers come as a list of two-tuples, in ASGI as bytes."""
    assert scrub([("Authorization", "x"), (b"cookie", b"a=b"), ("accept", "*/*")]) == [
        ["Authorization", "[scrubbed: authorization]"],
        ["cookie", "[scrubbed: cookie]"],
        ["accept", "*/*"],
    ]


def test_fields_are_found_at_every_level() -> None:
    """In mappings inside of lists inside of mappings."""
    assert scrub({"users": [{"profile": {"api_key": SECRET, "age": 7}}]}) == {
        "users": [{"profile": {"api_key": "[scrubbed: key]", "age": 7}}]
    }


# By the look of the value


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("Bearer abcDEF123456", "[scrubbed: credentials]"),
        ("got bearer aaaaaaaaaaaaaaaaaaaaaaaa!", "got [scrubbed: credentials]!"),
        ("Basic dXNlcjpwYXNz", "[scrubbed: credentials]"),
        ("Basic understanding is enough", "Basic understanding is enough"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln-x_", "[scrubbed: jwt]"),
        ("postgresql://ada:pw@db/x", "postgresql://[scrubbed: url credentials]db/x"),
        ("postgresql://ada:p@ss@db/x", "postgresql://[scrubbed: url credentials]db/x"),
        ("redis://:pa/ss@cache:1/0", "redis://[scrubbed: url credentials]cache:1/0"),
        ("https://tok_en@example.org/x", "https://[scrubbed: url credentials]example.org/x"),
        ("https://example.org:8000/a?b=c", "https://example.org:8000/a?b=c"),
        ("http://host:8000/u/x@example.org", "http://host:8000/u/[scrubbed: email]"),
        ('password="a token=b" x', "password=[scrubbed: password] x"),
        ("AKIAABCDEFGHIJKLMNOP", "[scrubbed: key]"),
        ("ghp_abcdefghijklmnopqrstuvwxyzabcdefghij", "[scrubbed: key]"),
        ("bad key sk-proj-abcdefghijklmnop given", "bad key [scrubbed: key] given"),
        ("risk-assessment-of-everything", "risk-assessment-of-everything"),
        ("mail from ada.l+x@mail.example.org.", "mail from [scrubbed: email]."),
        ("a @ b", "a @ b"),
        ("card 4111 1111 1111 1111 ok", "card [scrubbed: card] ok"),
        ("card 4111-1111-1111-1111", "card [scrubbed: card]"),
        ("378282246310005", "[scrubbed: card]"),
        ("id 4111111111111112", "id 4111111111111112"),
        ("at 1800000000000", "at 1800000000000"),
        ("0.4111111111111111", "0.4111111111111111"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nx", "[scrubbed: private key]\nx"),
        ("-----BEGIN PRIVATE KEY-----\ncut off", "[scrubbed: private key]"),
        ("password", "password"),
        ("the author said", "the author said"),
        ("", ""),
    ],
)
def test_secrets_are_known_by_their_look(text: str, scrubbed: str) -> None:
    """And what only resembles them stays."""
    assert scrub_text(text) == scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "token=hunter2 for ada",
        "login with password: hunter2",
        "password='hunter2 hunter2'",
        'password="hunter2',
        "password=b'hunter2'",
        "password=Password(value='hunter2')",
        "password = ['hunter2', 'hunter2']",
        "{'api_key': 'hunter2'}",
        '{"db_password": "hunter2"}',
        r"{\"password\": \"hunter2\"}",
        "/callback?code=1&access_token=hunter2&x=2",
        "Authorization: Token hunter2",
        "Authorization: Bearer hunter2",
        "Cookie: theme=dark; id=hunter2",
        "sessionid=hunter2;",
        "secret => hunter2",
        "--password=hunter2",
        "settings.SECRET_KEY=hunter2",
        "password=someone@example.org-hunter2",
        "[('Cookie', 'hunter2'), ('accept', '*/*')]",
        '[["authorization", "hunter2"]]',
        "(b'x-api-key', b'hunter2')",
        """context = {"api_key": "hunter2", "headers": [("Cookie", "hunter2")]}""",
        "call(order=Order(password='hunter2'), token='hunter2')",
    ],
)
def test_what_is_assigned_to_a_secret_name_goes(text: str) -> None:
    """In messages, reprs, JSON inside of a text, queries and command lines."""
    scrubbed = scrub_text(text)
    assert SECRET not in scrubbed
    assert "[scrubbed: " in scrubbed


def test_what_is_assigned_to_other_names_stays() -> None:
    """Names, limits and queries."""
    text = "author=ada max_tokens=400 GET /items?page=2&order=name status: 500 {'name': 'x'} ['token', 'b', 'c']"
    assert scrub_text(text) == text


def test_large_numbers_are_looked_at() -> None:
    """A card number as an int is a card number."""
    assert scrub([4111111111111111, 4111111111111112, 2**70]) == ["[scrubbed: card]", 4111111111111112, str(2**70)]


def test_the_check_digit_decides() -> None:
    """By Luhn's rule, over the digits alone."""
    assert passes_luhn("4111 1111 1111 1111")
    assert not passes_luhn("4111 1111 1111 1112")


def test_keys_of_mappings_are_texts_too() -> None:
    """An address as a key is an address."""
    assert scrub({"ada@example.org": 1}) == {"[scrubbed: email]": 1}


# Copies, bounds and odd values


def test_the_original_is_not_touched() -> None:
    """The copy is plain data of its own."""
    original = {"password": SECRET, "tags": ["a"]}
    copied = scrub(original)
    copied["tags"].append("b")
    assert original == {"password": SECRET, "tags": ["a"]}


def test_what_is_too_deep_is_hidden() -> None:
    """The limit gives a mark, never the raw value."""
    value: Any = SECRET
    for _ in range(DEPTH + 2):
        value = [value]
    assert SECRET not in json.dumps(scrub(value))
    assert TOO_DEEP in json.dumps(scrub(value))


def test_cycles_end() -> None:
    """A mapping that holds itself is cut like any deep one."""
    value: dict[str, Any] = {"a": 1}
    value["self"] = value
    assert TOO_DEEP in json.dumps(scrub(value))


def test_size_is_bounded() -> None:
    """100 items wide, 2,000 values in all, texts of 4,096 characters."""
    assert len(scrub(list(range(1000)))) == WIDTH + 1
    wide_and_deep = [[[list(range(50))] * 50] * 50] * 50
    text = json.dumps(scrub(wide_and_deep))
    assert TOO_MUCH in text
    assert len(text) < 50 * SIZE
    assert len(scrub("x" * 100_000)) < 5_000


class Broken:
    """Raises wherever it is touched."""

    def __repr__(self) -> str:
        raise RuntimeError(SECRET)


class Request:
    """Shows a secret in its repr."""

    def __repr__(self) -> str:
        return f"<Request token={SECRET}>"


def test_objects_are_shown_by_their_repr_which_is_scrubbed() -> None:
    """And one that cannot be shown is named."""
    assert scrub([Request(), Broken(), {1: None}, b"token=abc", 1.5]) == [
        "<Request token=[scrubbed: token]",
        "<Broken: repr raised RuntimeError>",
        {"1": None},
        "token=[scrubbed: token]",
        1.5,
    ]


@dataclass(frozen=True)
class Login:
    """Holds a secret that it shows and one that it does not."""

    user: str
    password: str
    pin: str = field(default=SECRET, repr=False)


class Colour(Enum):
    """Holds a harmless text."""

    RED = "red"


class Pair(NamedTuple):
    """Holds a secret under a name."""

    user: str
    token: str


def test_records_are_scrubbed_by_the_names_of_their_fields() -> None:
    """Dataclasses, without what they keep out of their repr, and named tuples; an enum is its value."""
    assert scrub([Login("ada", SECRET), Pair("ada", SECRET), Colour.RED]) == [
        {"user": "ada", "password": "[scrubbed: password]"},
        {"user": "ada", "token": "[scrubbed: token]"},
        "red",
    ]


def test_settings_with_a_name_and_a_value_are_fields_too() -> None:
    """Containers and processes list their environment and options so."""
    assert scrub([{"name": "DB_PASSWORD", "value": SECRET}, {"name": "PORT", "value": "80"}]) == [
        {"name": "DB_PASSWORD", "value": "[scrubbed: password]"},
        {"name": "PORT", "value": "80"},
    ]
    assert scrub(["run", "--token", SECRET, "--password=x", "y"]) == [
        *("run", "--token", "[scrubbed: token]", "--password=[scrubbed: password]", "y")
    ]


def test_the_folder_of_a_process_is_no_password() -> None:
    """PWD holds a path in every environment; the Pwd of a connection does not."""
    assert scrub({"PWD": "/srv/app", "OLDPWD": "/", "Pwd": "hunter2"}) == {
        "PWD": "/srv/app",
        "OLDPWD": "/",
        "Pwd": "[scrubbed: password]",
    }
    assert scrub_text("PWD=/srv/app pwd=hunter2") == "PWD=/srv/app pwd=[scrubbed: password]"


# Fields of a log line


def test_fields_without_secrets_come_back_themselves() -> None:
    """The usual case costs no copy, whatever was learned about the names before."""
    fields = {"path": "/items/42", "status": 200, "ms": 1.5, "ok": True, "user": None, "at": NOW, "id": UUID(int=7)}
    scrubber = Scrubber()
    assert scrubber.scrub_fields(fields) is fields
    assert scrubber.scrub_fields(fields) is fields
    assert scrubber.scrub_fields({}) == {}


def test_fields_with_secrets_are_copied() -> None:
    """By name and by look; the mapping that was given stays as it is."""
    given = {"token": SECRET, "to": "ada@example.org", "card": 4111111111111111, "n": 1, "user": Login("ada", SECRET)}
    kept = dict(given)
    assert DEFAULT.scrub_fields(given) == {
        "token": "[scrubbed: token]",
        "to": "[scrubbed: email]",
        "card": "[scrubbed: card]",
        "n": 1,
        "user": {"user": "ada", "password": "[scrubbed: password]"},
    }
    assert given == kept


def test_long_texts_of_a_line_are_not_cut() -> None:
    """The line is the caller's: only what is secret goes."""
    text = "x" * 10_000
    assert DEFAULT.scrub_fields({"text": text})["text"] is text
    assert DEFAULT.scrub_fields({"text": f"{text} token=a"})["text"] == f"{text} token=[scrubbed: token]"


@pytest.mark.parametrize("value", [Broken(), {"a": Broken()}, [Broken()], {1: Broken()}, 10**400, "\ud800", b"\xff"])
def test_odd_fields_raise_nothing(value: Any) -> None:
    """Under any name, of any type."""
    assert set(DEFAULT.scrub_fields({"odd": value, 7: value})) == {"odd", 7}


def test_more_names_than_are_remembered_are_scrubbed_alike() -> None:
    """What is known of names is bounded and forgotten, never wrong."""
    for number in range(5_000):
        assert DEFAULT.scrub_fields({f"name{number}": "x"}) == {f"name{number}": "x"}
    assert DEFAULT.scrub_fields({"password": "x", "n" * 500: "x", "password" * 50: "x"}) == {
        "password": "[scrubbed: password]",
        "n" * 500: "x",
        "password" * 50: "[scrubbed: password]",
    }


# Rules


def test_rules_can_be_added() -> None:
    """For a name or for a look, on top of the others."""
    mine = Scrubber().extended(
        FieldRule("grant", r"_grant_number_"), ValueRule("staff", r"\bstaff/\d+", hints=("staff/",))
    )
    assert mine.scrub({"grantNumber": "7", "password": "x", "by": "staff/12"}) == {
        "grantNumber": "[scrubbed: grant]",
        "password": "[scrubbed: password]",
        "by": "[scrubbed: staff]",
    }


def test_a_rule_can_take_out_a_part_of_what_it_finds() -> None:
    """The group ``secret`` of its pattern."""
    mine = Scrubber((), [ValueRule("badge", r"badge (?P<secret>\d+)", hints=("badge ",))])
    assert mine.scrub_text("badge 123 and badge 4") == "badge [scrubbed: badge] and badge [scrubbed: badge]"


def test_a_rule_can_keep_names_and_numbers() -> None:
    """By their name, or only when the value is a number."""
    mine = Scrubber([FieldRule("salary", r"_salary_", unless=r"_band_\Z", unless_number=r"_count_\Z")], ())
    assert mine.scrub({"salary": 1, "salary_band": "B", "salary_count": 3}) == {
        "salary": "[scrubbed: salary]",
        "salary_band": "B",
        "salary_count": 3,
    }
    assert (
        mine.scrub_text("Salary: 100, salary_count=x") == "Salary: [scrubbed: salary], salary_count=[scrubbed: salary]"
    )


def test_hints_of_field_rules_hold_for_all_their_names() -> None:
    """A text without the hints is not searched for names, so that each must be in all that its rule matches."""
    for rule in FIELD_RULES:
        assert rule.hints
        for name in NAMES_BY_RULE[rule.name]:
            assert Scrubber([rule], ()).scrub_text(f"{name}=x1y2") == f"{name}=[scrubbed: {rule.name}]"


def test_every_rule_is_documented_by_its_name() -> None:
    """docs/scrubbing.md lists the rules, which are switched off by these names."""
    documented = set(re.findall(r"^\| `([\w -]+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    assert documented == {rule.name for rule in (*FIELD_RULES, *VALUE_RULES)}


def test_rules_can_be_left_out_by_name() -> None:
    """An unknown name is an error that lists the known ones."""
    assert Scrubber().without("email", "session").scrub({"session": "a", "to": "ada@example.org"}) == {
        "session": "a",
        "to": "ada@example.org",
    }
    with pytest.raises(ValueError, match="'mail' is not a rule; use one of authorization, card"):
        Scrubber().without("mail")


def test_a_scrubbed_text_stays_as_it_is() -> None:
    """Scrubbing twice is scrubbing once."""
    for text in ("password=x", "to ada@example.org", "Authorization: Bearer abcdef123", "x://a:b@c"):
        assert scrub_text(scrub_text(text)) == scrub_text(text)
