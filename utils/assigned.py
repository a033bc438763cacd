"""Finding what a text assigns to a name: pairs, JSON, headers, options, elements, forms and code."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

NAME_LENGTH: Final = 128

_NAME: Final = rf"(?P<name>[^\W\d][\w.-]{{0,{NAME_LENGTH - 1}}}+(?: (?i:key|id|number|phrase|code)\b)?)"
_ITEM: Final = rf"(?P<item>[^\W\d][\w.-]{{0,{NAME_LENGTH - 1}}}+)"
_STRING: Final = r"""[bBrRuU]{0,2}(?:\\*"[^"\n]*"?|\\*'[^'\n]*'?)"""
_BARE: Final = r"""[^\s"'&,;(){}\[\]<>]+"""

_ASSIGNMENT: Final = re.compile(
    rf"""(?:\[\\*["']?{_ITEM}\\*["']?\]|(?:(?<!\w)(?<!\d{{12}}:)|(?<=%[0-9A-Fa-f]{{2}})){_NAME}\\*["']?(?:%5[Dd])?)"""
    r"""(?: is|(?: for| of)(?: user)? [\w.@+-]{1,64})?\s*(?P<sign>=>|==?|:=?|%3[DdAa])[^\S\r\n]*"""
)
"""A name and the sign before its value, as in ``token=x``, ``"token": "x"``, ``user[token]=x`` and ``token%3Dx``."""
_VALUE: Final = re.compile(
    r"""(?!\[scrubbed:[^\]]*\](?:[\s"'&,;)<]|\Z))(?:(?i:bearer|basic|digest|token|apikey)\s+|string\(\d+\)\s+)?(?:"""
    rf"""{_STRING}"""
    r"""|[\w.]*[(\[{][^)\]}\n]{0,500}[)\]}]?"""
    r"""|[^\s"'&,;(){}\[\]]+)[^\s"'&,;(){}\[\]]*"""
)
_ENCODED_VALUE: Final = re.compile(r"""(?!\[scrubbed:)(?:(?!%26|%23)[^\s"'&])+""")

_SHAPES: Final = tuple(
    (hints, re.compile(pattern))
    for hints, pattern in (
        (  # headers as pairs: ('Cookie', 'x')
            ("',", '",'),
            rf"""[(\[]\s*[bBrRuU]{{0,2}}\\*["']{_NAME}\\*["']\s*,\s*"""
            r"""(?P<secret>[bBrRuU]{0,2}(?:\\*"[^"\n]*"|\\*'[^'\n]*'))(?=\s*[)\]])""",
        ),
        (  # options: --token x, ['--token', 'x']
            ("--",),
            rf"""(?<![\w-])--{_NAME}(?:["'],)?\s+(?!-)(?P<secret>(?!\[scrubbed:){_STRING}|(?!\[scrubbed:)[^\s"'|;&]+)""",
        ),
        (  # lists of settings: "name": "TOKEN", "value": "x", also as YAML and as attributes
            ("alue", "ALUE"),
            rf"""(?<!\w)(?i:name|key)\\*["']?\s*[=:]\s*\\*["']?{_NAME}\\*["']?[\s,]{{1,20}}\\*["']?(?i:value)\\*["']?"""
            rf"""\s*[=:]\s*(?P<secret>(?!\[scrubbed:)(?:{_STRING}|{_BARE}))""",
        ),
        (  # elements: <token>x</token>
            ("</",),
            rf"<(?:[A-Za-z_]\w{{0,30}}:)?{_NAME}(?:\s[^<>]{{0,200}})?>(?P<secret>(?!\[scrubbed:)[^<]+)</",
        ),
        (  # fields of a multipart form
            ("form-data",),
            rf"""form-data;\s*name=\\?"{_NAME}\\?"[^\r\n]{{0,100}}?(?:\r?\n|\\r\\n|\\n){{2}}(?P<secret>(?!\[scrubbed:)(?:(?!\\[rn])[^\r\n])+)""",
        ),
    )
)

_NO_SECRET: Final = re.compile(
    r"""\\*(["']?)(?:"""
    r"(?i:none|null|nil|undefined|true|false|yes|no|on|off|ok|missing|required|optional|invalid|valid|expired|revoked"
    r"|empty|unknown|incorrect|unset|redacted|masked|filtered|hidden|removed|str|string|bytes|bool|int|integer|number"
    r"|any|object|must|should|may|can|cannot|is|are|was|were|they|the|this|that|has|have|will|not|too|does|please|field)"
    r"|\*{3,}|\.{3}|%s|\?|\$\d+|\$[A-Z_][A-Z0-9_]*|\$\{[^}\s]{0,99}\}|\$\([^)\n]{0,99}\)|%\(\w{1,99}\)s|%\w{1,99}%"
    r"|\{\{[^}\n]{0,99}\}\}|\{\w{0,99}\}|:[a-z_]{1,99}|<[A-Za-z _-]{1,99}>|<[^<>\n]{1,200} at 0x[0-9A-Fa-f]{4,16}>"
    r"|\[(?i:redacted|filtered|masked|hidden|removed)\]"
    r"|(?<=[\"'])"
    r""")\\*\1(?=[\s"'&,;)}\]\\<]|\.?\Z)"""
)
"""Words, placeholders and reprs that stand where a secret would."""
_VARIABLE: Final = re.compile(
    r"(?![\d.])(?:[\w.]{0,99}[._])?(?i:password|passwd|token|secret|key|credentials|cookie|session)s?(?=[\s,;:)\]]|\Z)"
)
_EXPRESSION: Final = re.compile(
    r"""[a-z_]\w{0,63}(?:\.[A-Za-z_]\w{0,63}){0,5}"""
    r"""(?:\((?:[A-Za-z_., ]{0,99})\)|[(\[]["'][A-Za-z_-]{1,64}["'][)\]])(?=[\s,;:)]|\Z)"""
)
_NEXT: Final = re.compile(r"HTTP/\d|[\w.-]{1,64}=(?![=\s]|\Z)")
"""What follows a name without a value, as in ``token= user=ada``."""
_SOURCE_LINE: Final = re.compile(r"\.(?:py|pyx|rb|js|ts|tsx|go|rs|java|kt|scala|php|cs|c|cc|cpp|h|ex|exs|erl|sql):\d")
"""A place in a file, such as ``session.py:12``, is no assignment."""
_PARSED: Final = re.compile(r"(?i:expected|illegal|unrecogni[sz]ed|next) \Z")
_OF_AN_ERROR: Final = re.compile(
    r"(?:Invalid|Missing|Bad|Expired|Unknown|Wrong|Malformed)[A-Z]\w*\Z|[a-z](?:Invalid|Expired|Missing)\Z"
)

RuleOf = Callable[..., str]
"""Gives the name of the rule for a name and the text or number under it; "" for none."""


def without_assigned(text: str, rule_of: RuleOf) -> str:
    """Return ``text`` without what is assigned to names that ``rule_of`` has a rule for."""
    for hints, pattern in _SHAPES:
        for hint in hints:
            if hint in text:
                text = pattern.sub(lambda match: _shape_scrubbed(match, rule_of), text)
                break
    return _assignments_scrubbed(text, rule_of)


def _shape_scrubbed(match: re.Match[str], rule_of: RuleOf) -> str:
    secret = match["secret"]
    rule = rule_of(match["name"], number_or_text(secret))
    if not rule or _NO_SECRET.match(secret):
        return match[0]
    start, end = match.start("secret") - match.start(), match.end("secret") - match.start()
    return f"{match[0][:start]}[scrubbed: {rule}]{match[0][end:]}"


def _assignments_scrubbed(text: str, rule_of: RuleOf) -> str:
    kept: list[str] = []
    done = 0
    for match in _ASSIGNMENT.finditer(text):
        name = match["item"] or match["name"]
        if match.start() < done or not rule_of(name) or _is_harmless(match, name):
            continue
        pattern = _ENCODED_VALUE if match["sign"][0] == "%" else _VALUE
        value = pattern.match(text, match.end())
        if value is not None and (rule := rule_of(name, number_or_text(value[0]))):
            kept += [text[done : match.end()], f"[scrubbed: {rule}]"]
            done = value.end()
    return "".join([*kept, text[done:]]) if kept else text


def _is_harmless(match: re.Match[str], name: str) -> bool:
    """Say whether what follows is a placeholder, a type or code, and no secret."""
    text, end = match.string, match.end()
    if _NO_SECRET.match(text, end) or _VARIABLE.match(text, end):
        return True
    if text[match.start("sign") - 1].isspace() and _EXPRESSION.match(text, end):
        return True
    if match["sign"] == "=" and text[end - 1] == " " and _NEXT.match(text, end):
        return True
    if match["sign"] != ":":
        return False
    if _SOURCE_LINE.search(text, match.start(), end + 1):
        return True
    return (
        _OF_AN_ERROR.search(name) is not None
        or _PARSED.search(text, max(0, match.start() - 16), match.start()) is not None
    )


def number_or_text(text: str) -> float | str:
    """Return what is written in ``text``: a number if it is one."""
    try:
        return float(text.strip("\\\"'"))
    except ValueError:
        return text
