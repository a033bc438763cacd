"""What may be said of a statement: its first keyword, its table where there is one, and its text without values.

Quoting differs between databases, and a misread quote would let a value out. So a text in which quotes can be read in
two ways is cut before the first of them, and what is quoted like an identifier is kept only where one must stand.
"""

from __future__ import annotations

import re
from typing import Final

LENGTH: Final = 2_048
"""Characters of a statement that are kept."""
_READ: Final = 8_192
"""Characters of a statement that are looked at; longer ones are described anew each time, and not kept as a key."""
_KEPT: Final = 512
"""Statements whose description is kept."""

Description = tuple[str, str, str]
"""Name, operation, text."""

_descriptions: dict[str, Description] = {}

_AMBIGUOUS: Final = re.compile(r"""\\['"]|\b[nN]?[qQ]'|\#(?![>\-\#])[^\n]*['"]""")
"""A backslash or Oracle's ``q'`` before a quote, MySQL's ``#`` comment with one inside."""

_ANY_QUOTE: Final = re.compile("['\"]")

_TOKEN: Final = re.compile(
    r"""
      (?P<comment> --[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<value>
        (?: \b[eEnNxXbB] | \b[uU]& )? '(?:[^']|'')*(?:'|\Z)
      | \$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z)
      | (?<![\w$:@%.]) (?: \d[\w.]*(?:(?<=[eE])[+-]\d+)? | \.\d\w* )
      )
    | (?P<quoted> "(?:[^"]|"")*(?:"|\Z) )
    | `[^`]*(?:`|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)
_BEFORE_IDENTIFIER: Final = re.compile(r"(?:\.|\b(?:FROM|JOIN|INTO|UPDATE|TABLE|COPY|AS))\s*\Z", re.IGNORECASE)

_PLACEHOLDER: Final = r"(?:\?|%s|%\(\w+\)s|[:$@]\w+)(?:::\w+)?"
_LIST: Final = re.compile(rf"\(\s*{_PLACEHOLDER}(?:\s*,\s*{_PLACEHOLDER})+\s*\)")
_LISTS: Final = re.compile(r"(\(\?, \.\.\.\)|\(\?\))(?:\s*,\s*(?:\(\?, \.\.\.\)|\(\?\)))+")
_SPACE: Final = re.compile(r"\s+")

_OPERATIONS: Final = frozenset(
    re.findall(
        r"\w+",
        """
        SELECT INSERT UPDATE DELETE MERGE REPLACE UPSERT WITH VALUES TABLE CREATE ALTER DROP TRUNCATE COMMENT GRANT
        REVOKE BEGIN START COMMIT ROLLBACK SAVEPOINT RELEASE SET RESET SHOW USE LOCK UNLOCK EXPLAIN DESCRIBE DESC
        ANALYZE VACUUM PRAGMA ATTACH DETACH CALL EXEC EXECUTE PREPARE DEALLOCATE DECLARE FETCH CLOSE COPY LOAD LISTEN
        NOTIFY UNLISTEN REFRESH REINDEX CLUSTER CHECKPOINT DISCARD DO OPTIMIZE KILL
        """,
    )
)
_FIRST_WORD: Final = re.compile(r"[\s(]*([A-Za-z]+)")

_NAME: Final = r"""((?:[\w$]+|"[^"]+"|`[^`]+`|\[[\w ]+\])(?:\.(?:[\w$]+|"[^"]+"|`[^`]+`|\[[\w ]+\]))*)"""
_TARGET: Final = re.compile(
    r"(?:\b(?:FROM|JOIN|INTO|USING)\s+(?!STD(?:IN|OUT)\b)|\A\s*(?:UPDATE|COPY|TRUNCATE\s+TABLE)\s+)"
    rf"(?:ONLY\s+)?(?:{_NAME}|\()",
    re.IGNORECASE,
)
_AFTER_TARGET: Final = re.compile(
    r"\b(?:WHERE|SET|VALUES|GROUP|HAVING|ORDER|LIMIT|OFFSET|FETCH|FOR|WINDOW|RETURNING|ON|DEFAULT)\b|\(|\Z",
    re.IGNORECASE,
)
_SEVERAL: Final = re.compile(r",|\b(?:UNION|INTERSECT|EXCEPT|SELECT)\b", re.IGNORECASE)
_QUOTES: Final = re.compile(r'["`\[\]]')
_NAME_LENGTH: Final = 100


def describe(statement: str) -> Description:
    """Return a statement's name (``SELECT funders``), its operation and its text without values.

    The last 512 different ones are remembered.
    """
    known = _descriptions.get(statement)
    if known is not None:
        return known
    described = _describe(statement)
    if len(statement) <= _READ:
        if len(_descriptions) >= _KEPT:
            _descriptions.clear()
        _descriptions[statement] = described
    return described


def without_values(statement: str) -> str:
    """Return the text with each literal as ``?``, without comments, lists of placeholders shortened."""
    text = _TOKEN.sub(_replacement, _certain(statement[:_READ]))
    text = _LISTS.sub(r"\1, ...", _LIST.sub("(?, ...)", text))
    return _SPACE.sub(" ", text).strip()[:LENGTH]


def _certain(text: str) -> str:
    """Return the text up to where its quotes may mean two things."""
    doubt = _AMBIGUOUS.search(text)
    if doubt is None and not text.count("'") % 2 and not text.count('"') % 2:
        return text
    first_quote = _ANY_QUOTE.search(text)
    return text[: min(found.start() for found in (doubt, first_quote) if found)] + " ..."


def _replacement(token: re.Match[str]) -> str:
    if token["comment"]:
        return " "
    if token["value"] or (token["quoted"] and not _is_identifier(token)):
        return "?"
    return token[0]


def _is_identifier(token: re.Match[str]) -> bool:
    before = token.string[max(0, token.start() - 16) : token.start()]
    return token.string[token.end() : token.end() + 1] == "." or _BEFORE_IDENTIFIER.search(before) is not None


def _describe(statement: str) -> Description:
    text = without_values(statement)
    word = _FIRST_WORD.match(text)
    operation = word[1].upper() if word else ""
    if operation not in _OPERATIONS:
        operation = "OTHER"
    table = "" if operation == "WITH" else _only_table(text)
    return (f"{operation} {table}" if table else operation), operation, text


def _only_table(text: str) -> str:
    """Return the table of a statement that names exactly one, "" for every other."""
    targets = list(_TARGET.finditer(text))
    if len(targets) != 1 or targets[0][1] is None:
        return ""
    (target,) = targets
    before, after = text[: target.start()], text[target.end() :]
    end = _AFTER_TARGET.search(after)
    is_function = target[0][:4].upper() == "FROM" and after.lstrip()[:1] == "("
    if is_function or before.count("(") != before.count(")") or _SEVERAL.search(after[: end.start() if end else None]):
        return ""
    name = _QUOTES.sub("", target[1])
    return name if len(name) <= _NAME_LENGTH else ""
