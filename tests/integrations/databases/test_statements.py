"""What is said of a statement: never a value, and a table only where there is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.integrations.databases import statements
from monitoring.integrations.databases.statements import LENGTH, describe, without_values

SECRET = "hunter2"


@pytest.mark.parametrize(
    "statement",
    [
        f"SELECT * FROM users WHERE name = '{SECRET}'",
        f"SELECT * FROM users WHERE name = 'O''Hara {SECRET}'",
        f"SELECT * FROM users WHERE name = 'O\\'Hara {SECRET}'",
        f"SELECT * FROM users WHERE path = 'C:\\' AND name = '{SECRET}'",
        f'SELECT * FROM users WHERE name = "{SECRET}"',
        f'SELECT * FROM users WHERE name IN ("a", "{SECRET}")',
        f"SELECT * FROM users WHERE name = '{SECRET}",
        f"SELECT * FROM users WHERE name = $${SECRET}$$",
        f"SELECT * FROM users WHERE name = $tag$it's {SECRET}$tag$",
        f"SELECT * FROM users WHERE name = E'\\'{SECRET}'",
        f"SELECT * FROM users WHERE name = U&'{SECRET}'",
        f"SELECT * FROM users WHERE name = q'[it's {SECRET}]'",
        f"SELECT 1 -- {SECRET}",
        f"SELECT 1 /* {SECRET}",
        f"SELECT 1 # it's {SECRET}\n, 'x'",
        f"SELECT 1 -- it's\n, '{SECRET}'",
    ],
)
def test_no_value_is_let_out(statement: str) -> None:
    """Whatever the database's quoting, a value is gone; in doubt so is the rest of the statement."""
    assert SECRET not in without_values(statement)


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("SELECT a FROM t1 WHERE b = 42 AND c > -1.5e-3", "SELECT a FROM t1 WHERE b = ? AND c > -?"),
        ("SELECT a FROM t LIMIT .5 OFFSET 0x1F", "SELECT a FROM t LIMIT ? OFFSET ?"),
        ("SELECT a\n  FROM t\tWHERE b = ?", "SELECT a FROM t WHERE b = ?"),
        ("SELECT a FROM t WHERE b = $1 AND c = :c_1", "SELECT a FROM t WHERE b = $1 AND c = :c_1"),
        ("SELECT a FROM t WHERE b = %(b_1)s AND c = %s", "SELECT a FROM t WHERE b = %(b_1)s AND c = %s"),
        ("SELECT a FROM t WHERE b IN (?, ?, ?)", "SELECT a FROM t WHERE b IN (?, ...)"),
        ("SELECT a FROM t WHERE b IN (%(b_1_1)s, %(b_1_2)s)", "SELECT a FROM t WHERE b IN (?, ...)"),
        ("SELECT a FROM t WHERE b IN ($1::INTEGER, $2::INTEGER)", "SELECT a FROM t WHERE b IN (?, ...)"),
        ("SELECT a FROM t WHERE b IN (1, 2, 3)", "SELECT a FROM t WHERE b IN (?, ...)"),
        ("INSERT INTO t (a, b) VALUES (?, ?), (?, ?), (?, ?)", "INSERT INTO t (a, b) VALUES (?, ...), ..."),
        ('SELECT "order".id FROM "order"', 'SELECT "order".id FROM "order"'),
        ("SELECT `a'b` FROM t", "SELECT `a ..."),
        ("SELECT 1 /* why */ FROM t", "SELECT ? FROM t"),
    ],
)
def test_the_shape_of_a_statement_is_kept(statement: str, text: str) -> None:
    """Names, placeholders and keywords stay; lists shrink, so that their length makes no new statement."""
    assert without_values(statement) == text


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("SELECT * FROM funders", "SELECT funders"),
        ("select f.a from public.funders AS f where f.a in (select 1)", "SELECT public.funders"),
        ('SELECT * FROM "Order"', "SELECT Order"),
        ("SELECT * FROM [dbo].[Order Lines]", "SELECT dbo.Order Lines"),
        ("INSERT INTO funders(name) VALUES (?) ON CONFLICT DO UPDATE SET name = ?", "INSERT funders"),
        ("UPDATE funders SET a = 1, b = 2", "UPDATE funders"),
        ("DELETE FROM funders WHERE id = 1", "DELETE funders"),
        ("SELECT * FROM funders WHERE id = 1 FOR UPDATE", "SELECT funders"),
        ("(SELECT * FROM funders)", "SELECT"),
        ("SELECT * FROM funders, users", "SELECT"),
        ("SELECT * FROM funders f JOIN users u ON f.id = u.id", "SELECT"),
        ("INSERT INTO funders SELECT * FROM old_funders", "INSERT"),
        ("SELECT * FROM generate_series(1, 3)", "SELECT"),
        ("SELECT extract(year FROM created)", "SELECT"),
        ("SELECT * FROM (SELECT 1)", "SELECT"),
        ("WITH x AS (SELECT 1) SELECT * FROM x", "WITH"),
        ("COPY funders (name) FROM STDIN", "COPY funders"),
        ('COPY "public"."Order"("id") TO STDOUT', "COPY public.Order"),
        ("COPY (SELECT * FROM funders) TO STDOUT", "COPY"),
        ("BEGIN", "BEGIN"),
        ("hunter2 is no statement", "OTHER"),
        ("", "OTHER"),
    ],
)
def test_the_table_is_named_only_where_there_is_one(statement: str, name: str) -> None:
    """More than one source, or none that is a table, leaves the operation alone."""
    assert describe(statement)[0] == name


@given(st.text(alphabet="abc '\"\\$-/*#`;=1\n", max_size=40), st.text(alphabet="xyz", min_size=6, max_size=8))
def test_any_text_can_be_described(noise: str, word: str) -> None:
    """Broken SQL is described like any other, and a plain quoted value is never in the text."""
    name, operation, text = describe(f"SELECT '{word}' {noise}")
    assert word not in text
    assert (name.split(" ")[0], operation) == ("SELECT", "SELECT")


def test_what_is_kept_is_bounded() -> None:
    """Neither the text nor the memory of statements grows without end, and a long one is not remembered."""
    for number in range(2_000):
        describe(f"SELECT {'a' * (number % 7)} FROM t{number}")
    describe("SELECT " + "a, " * 10_000)
    assert len(statements._descriptions) <= 512
    assert max(map(len, statements._descriptions)) < 100
    assert len(describe("SELECT " + "a, " * 10_000)[2]) <= LENGTH
