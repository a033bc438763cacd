"""The rules of scrubbing: names of fields that hold secrets, and what secrets look like.

docs/scrubbing.md lists them by name. Prefixes of tokens are the ones that their services document.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class FieldRule:
    """Scrubs what stands under a name, whatever it is.

    ``pattern`` is searched in the name's segments, lower case and set off by underscores: ``dbPassword`` and
    ``DB-PASSWORD`` are both ``_db_password_``. A name in which ``unless`` is found is kept, and one in which
    ``unless_number`` is found when its value is a number. Every name that ``pattern`` matches has one of the ``hints``
    in it when written in lower case; without hints every name in a text is looked at.
    """

    name: str
    pattern: str
    unless: str = ""
    unless_number: str = ""
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ValueRule:
    """Scrubs the parts of a text that look like something.

    A text that has none of the ``hints`` in it is never searched for ``pattern``; ``shortest`` is the length of its
    shortest match, and spares short texts the search. When the pattern has a group ``secret``, only that part is taken
    out. ``confirms`` has the last word on it.
    """

    name: str
    pattern: str
    hints: tuple[str, ...]
    confirms: Callable[[str], bool] = bool
    shortest: int = 1


def passes_luhn(text: str) -> bool:
    """Say whether the digits of ``text`` have the check digit of a card number."""
    digits = [int(character) for character in reversed(text) if character.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def is_card(text: str) -> bool:
    """Say whether ``text`` is the number of a payment card: by its first digits, length and check digit."""
    return _CARD.fullmatch(re.sub("[ -]", "", text)) is not None and passes_luhn(text)


_CARD: Final = re.compile(
    r"4\d{15}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}"
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}|(?:5018|5020|5038|6304|6759|676[1-3])\d{12}"
)
"""Visa, Mastercard, American Express, Diners, Discover, JCB, UnionPay and Maestro, as ISO/IEC 7812 numbers them."""


_UNITS: Final = frozenset({"service", "socket", "timer", "target", "mount", "slice", "scope", "device", "path", "swap"})
_FILES: Final = frozenset(
    {"png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "css", "js", "mjs", "json", "html", "txt"}
)
_PRIVATE: Final = frozenset({"local", "internal", "localdomain"})


def is_email(text: str) -> bool:
    """Say whether what has an @ is an address: no version, unit of systemd, name of a file or host in a private net."""
    local, _, domain = text.rpartition("@")
    ending = domain.rpartition(".")[2].lower()
    return local != "git" and not ending[0].isdigit() and ending not in _UNITS | _FILES | _PRIVATE


_ABOUT: Final = (
    r"_(type|kind|name|names|username|url|urls|uri|endpoint|path|paths|file|filename|dir|folder|policy|at|on|by"
    r"|expires|expired|expiry|expiration|ttl|timeout|age|lifetime|duration|version|versions|state|status|mode|methods?"
    r"|providers?|backends?|enabled|disabled|required|missing|invalid|valid|verified|errors?|exception|format|algorithm"
    r"|alg|domains?|scopes?|class|arn|fields?|columns?|prefix|suffix|stdin|env|store|manager|factory|maker|handler"
    r"|middleware|service|server|host|port|region|model|source|issuer|audience|realm|bucket|usage|consent|strength"
    r"|started|created|updated|changed|rotated|tokens_details)_\Z"
)
"""Last words of names that tell something about a secret and do not hold it."""

_MEASURE: Final = (
    r"_(counts?|limit|length|size|bytes|seconds|minutes|hours|days|ms|total|usage|budget|rate|max|min|used|left"
    r"|remaining|capacity|checked|found|percent|ratio|score|attempts|retries)_\Z"
    r"|_(tokens|sessions|cookies|secrets|passwords|credentials|keys)_"
)


def _held_by(name: str, pattern: str, *hints: str) -> FieldRule:
    return FieldRule(name, pattern, _ABOUT, _MEASURE, hints)


FIELD_RULES: Final = (
    _held_by(
        "password",
        r"pass_?words?_|passwd_|pwd_|_pass_|_(db|user|root|my|ftp|smtp|mail)pass_|pass_?(phrase|code)s?_|_otp_|_pin_"
        r"|pass_?wort_|kennwort_|mot_?de_?passe_|contrase[nñ]as?_|_senhas?_|wachtwoord_",
        *("pass", "pwd", "otp", "pin", "wort", "contrase", "senha", "wachtwoord"),
    ),
    _held_by("secret", r"secrets?_", "secret"),
    _held_by("token", r"tokens?_|_jwt_", "token", "jwt"),
    _held_by(
        "key",
        r"(api|access|secret|signing|encryption|master|account|auth|app|client|webhook|license|admin|deploy)_?keys?_",
        "key",
    ),
    _held_by("private key", r"private_?key_", "key"),
    _held_by("authorization", r"authorization_|_auth_(header_|data_|string_)?\Z|credentials?_", "auth", "credential"),
    _held_by("cookie", r"cookies?_", "cookie"),
    _held_by("session", r"_session_|session_?(id|key)_|sess_?id_|_sid_", "sess", "sid"),
    _held_by("csrf", r"csrf|xsrf", "csrf", "xsrf"),
    _held_by("ssn", r"_ssn_|social_?security", "ssn", "social"),
    _held_by("card", r"(credit|debit)_?card|card_?(number|num|no)_|_cvv2?_|_cvc2?_", "card", "cvv", "cvc"),
)

_NO_MARK: Final = r"(?!\[scrubbed: )"

VALUE_RULES: Final = (
    ValueRule(
        "private key",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)",
        ("-----BEGIN ",),
        shortest=20,
    ),
    ValueRule(
        "authorization",
        rf"""\b[Aa](?i:uthorization:)\s*+{_NO_MARK}(?P<secret>(?i:digest)\s[^\r\n]+|(?:(?!\\[rn])[^\r\n"'])+)""",
        ("uthorization:", "UTHORIZATION:"),
    ),
    ValueRule(
        "credentials",
        r"\b(?i:bearer|basic)\s+(?![\w.-]+=\w)(?=\S*(?:\d|=|[a-z][A-Z])|\S{20})[\w.~+/-]{8,}=*",
        ("earer ", "asic ", "BEARER ", "BASIC "),
        shortest=14,
    ),
    ValueRule(
        "credentials",
        r"""\s["']?(?:-u|-a|--user|--proxy-user)["']?[ =,]\s?["']?[^\s:"'/]{1,100}:"""
        rf"""{_NO_MARK}(?P<secret>(?!\d+\b)[^\s"']+)""",
        ("-u", "-a", "--proxy-u"),
    ),
    ValueRule("cookie", r"(?i:\b(?:set-)?cookie:)[^\r\n]+", ("ookie:", "COOKIE:")),
    ValueRule("jwt", r"\beyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)?", ("eyJ",), shortest=16),
    ValueRule(
        "url credentials",
        r"""(?<=//)(?:[^\s/?#"'<>]{1,500}|[^\s/:?#"'<>\[]{0,200}:(?!\d{1,5}[/?#])[^\s"'<>]{0,300})@""",
        ("@",),
    ),
    ValueRule(
        "url credentials",
        rf"""(?<![\w.%+/@-])(?!mailto:)[\w.%+-]{{1,64}}(?::{_NO_MARK}(?P<secret>[^\s:@/'"()<>]{{3,200}})"""
        r"""@(?!sha\d)(?=tcp\(|unix\(|[\w.-]{1,99}[:/]\w))""",
        ("@",),
    ),
    ValueRule(
        "url credentials",
        r"""(?<![\w.%+/@-])[\w.%+-]{1,64}/(?P<secret>[^\s:@/'"()<>]{3,200})@(?!sha\d)(?=[\w.-]{1,99}:\d)""",
        ("@",),
    ),
    ValueRule("key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b(?::[\w/+]{40})?", ("AKIA", "ASIA"), shortest=20),
    ValueRule(
        "key",
        r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|[rs]k_(?:live|test)_\w{10,}|whsec_\w{16,}|hf_\w{20,}|npm_\w{30,}"
        r"|dckr_[po]at_[\w-]{20,}|do[oprt]_v1_\w{40,}|shp(?:at|ca|pa|ss)_\w{20,}|lin_(?:api|oauth)_\w{20,}|ntn_\w{30,}"
        r"|gl(?:sa|c)_\w{30,}|gsk_\w{30,}|r8_\w{30,}|rubygems_\w{30,}|sb(?:p|_secret)_\w{20,}|fw_\w{20,})",
        ("_",),
        shortest=16,
    ),
    ValueRule(
        "key",
        r"\b(?:sk-[\w-]{16,}|gl(?:pat|dt|rt|ptt|ft|soat|cbt|imt|agent)-[\w-]{16,}(?:\.[\w.]+)?|x(?:ox[a-eoprs]|app)-[\w-]{10,}"
        r"|sq0[a-z]{3}-[\w-]{20,}|key-[0-9a-f]{32}|PMAK-[\w-]{40,}|NRAK-\w{20,}|GOCSPX-[\w-]{20,}|pypi-AgE[\w-]{30,}"
        r"|AGE-SECRET-KEY-1\w{20,}|[0-9a-f]{32}-us\d{1,2}|pplx-\w{30,}|xai-\w{40,}|HRKU-[\w-]{30,})\b",
        ("-",),
        shortest=16,
    ),
    ValueRule(
        "key",
        r"\b(?:SG\.[\w-]{16,}\.[\w-]{30,}|hv[sb]\.[\w-]{20,}|ya29\.[\w-]{20,}|\w{10,}\.atlasv1\.\w{40,}"
        r"|(?:M[Tjz]|N[DTjz]|O[DT])[\w-]{21,26}\.[\w-]{6}\.[\w-]{27,})",
        ("SG.", "hvs.", "hvb.", "ya29.", ".atlasv1.", "MT", "Mj", "Mz", "ND", "NT", "Nj", "Nz", "OD", "OT"),
        shortest=20,
    ),
    ValueRule(
        "key",
        r"\b(?:AIza[\w-]{30,}|ATATT3[\w=-]{50,}|SK[0-9a-f]{32}\b|dapi[0-9a-f]{32}|EAA\w{80,}|\w{3}\dQ~[\w.~-]{31,})",
        ("AIza", "ATATT3", "SK", "dapi", "EAA", "Q~"),
        shortest=20,
    ),
    ValueRule("key", r"(?<!\d)\d{8,10}:AA[\w-]{30,}", (":AA",), shortest=20),
    ValueRule(
        "key",
        r"(?:hooks\.slack\.com/(?:services|workflows|triggers)|discord(?:app)?\.com/api/webhooks/\d+)/"
        r"(?P<secret>[\w/-]{20,})",
        ("hooks.slack.com/", "/webhooks/"),
        shortest=20,
    ),
    ValueRule(
        "signature",
        rf"[?&;](?i:(?:x-(?:amz|goog)-)?(?:sig|signature))={_NO_MARK}(?P<secret>[^\s&\"'<>]{{16,}})",
        ("sig=", "ignature="),
        shortest=20,
    ),
    ValueRule(
        "password",
        r"\b(?:sshpass|(?:docker|podman|oras|az|oc|cf) login|twine upload)\b[^\n|;&]{0,200}?\s-p[ =]?"
        rf"""["']?{_NO_MARK}(?P<secret>[^\s"'|;&]+)""",
        (" -p",),
    ),
    ValueRule(
        "password",
        rf"""\b(?:mysql\w*|mariadb\w*)\b[^\n|;&]{{0,200}}?\s-p["']?{_NO_MARK}(?P<secret>[^\s"'|;&]+)""",
        (" -p",),
    ),
    ValueRule("password", rf"\bredis-cli\b[^\n|;&]{{0,200}}?\s-a\s+{_NO_MARK}(?P<secret>[^\s\"'|;&]+)", (" -a ",)),
    ValueRule(
        "password",
        rf"\b(?i:identified\s+by|password)\s+'{_NO_MARK}(?P<secret>[^'\n]+)'",
        ("dentified by '", "DENTIFIED BY '", "assword '", "ASSWORD '"),
    ),
    ValueRule(
        "password",
        r"(?i:password (?:is |was )?)(?!(?i:sha|md5|argon|base|pbkdf|bcrypt|scrypt)|v\d)"
        r"(?P<secret>(?=[^\s\d]{0,64}\d)(?=[^\sA-Za-z]{0,64}[A-Za-z])[\w!?#$%^*+~-]{6,64})(?![^\s,;.)])",
        ("assword ",),
        shortest=14,
    ),
    ValueRule(
        "one-time code",
        r"\b(?i:otp|(?:one-time|verification|security|login) (?:pass)?(?:code|word)|passcode)"
        r"(?:: | is )(?P<secret>\d{4,8})\b",
        ("ode is ", "ode: ", "ord is ", "ord: ", "OTP"),
    ),
    ValueRule(
        "one-time code",
        r"\b(?P<secret>\d{4,8}) is your (?:[\w-]+ ){0,3}(?:code|otp|OTP|password|passcode)\b",
        ("is your ",),
        shortest=14,
    ),
    ValueRule("email", r"(?<![\w.%+'-])[\w.%+'-]{1,256}@[\w-]{1,63}(?:\.[\w-]{1,63})+", ("@",), is_email),
    ValueRule(
        "card",
        r"[2-6](?<![0-9A-Za-z].)(?<!\d[.-].)"
        r"(?:\d{13,18}|\d{3}([ -])\d{4}\1\d{4}\1\d{4}|\d{3}([ -])\d{6}\2\d{4,5})(?![0-9A-Za-z]|[.-]\d)",
        tuple("23456"),
        is_card,
        shortest=14,
    ),
)
"""In this order: what one rule replaced, the next does not see."""
