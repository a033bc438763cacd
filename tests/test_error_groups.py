"""Grouping: which errors belong together, whatever a deploy, a user's text or a scheduler does to them."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitoring.error_groups import DEFAULT_PART, Fingerprint, Grouper, InApp, key_of, normalise

Pair = tuple[BaseException, BaseException]


class Project:
    """An app's code on disk, of which each scenario loads versions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions = itertools.count()

    def load(self, source: str, name: str = "shop.orders", folder: str = "", **names: Any) -> dict[str, Any]:
        """Return the namespace of a module, from a file of its own below ``folder``."""
        path = self.folder / folder / f"v{next(self._versions)}" / f"{name.rpartition('.')[2]}.py"
        path.parent.mkdir(parents=True)
        path.write_text(textwrap.dedent(source))
        namespace: dict[str, Any] = {"__name__": name, **names}
        exec(compile(path.read_text(), str(path), "exec"), namespace)
        return namespace

    def raised(self, source: str, *args: Any, **options: Any) -> BaseException:
        """Return what ``run`` of a module raises."""
        return caught(self.load(source, **options)["run"], *args)

    def library(self, source: str) -> dict[str, Any]:
        """Return the namespace of an installed module."""
        return self.load(source, "lib.client", "venv/lib/python3.11/site-packages")

    @property
    def grouper(self) -> Grouper:
        """A grouper to which this code is the app's."""
        return Grouper(InApp(str(self.folder)))


def caught(function: Callable[..., Any], *args: Any) -> BaseException:
    """Return what a call raises."""
    try:
        function(*args)
    except BaseException as error:
        return error
    raise AssertionError(f"{function} raised nothing")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project."""
    return Project(tmp_path)


def are_one_group(grouper: Grouper, pair: Pair) -> bool:
    """Say whether two errors share a key."""
    first, second = (set(grouper.of_exception(error).keys) for error in pair)
    return bool(first & second)


# The matrix: what has to be one group, and what must not be.

CHARGE = """
def run(order=1):
    check(order)

def check(order):
    amount = order * 2
    raise ValueError(f"order {order} of {amount} failed")
"""


def id_in_the_message(project: Project) -> Pair:
    module = project.load(CHARGE)
    return caught(module["run"], 1), caught(module["run"], 23456)


def text_in_the_message(project: Project) -> Pair:
    module = project.load("def run(text): raise LookupError(text)")
    return caught(module["run"], "no such funder: Ada's Trust"), caught(module["run"], "the moon is made of cheese")


def lines_inserted_above(project: Project) -> Pair:
    return project.raised(CHARGE), project.raised("import os\n\n\nLIMIT = 3\n" + textwrap.dedent(CHARGE))


def other_absolute_path(project: Project) -> Pair:
    return project.raised(CHARGE, folder="releases/1"), project.raised(CHARGE, folder="releases/2")


def variable_on_the_raising_line_renamed(project: Project) -> Pair:
    return project.raised(CHARGE), project.raised(CHARGE.replace("amount", "total"))


def statement_added_earlier_in_the_function(project: Project) -> Pair:
    changed = CHARGE.replace("    amount =", "    order = order + 0\n    amount =")
    return project.raised(CHARGE), project.raised(changed)


RECURSION = """
def run(depth):
    if depth == 0:
        raise ValueError("bottom")
    run(depth - 1)
"""

MUTUAL_RECURSION = """
def run(depth):
    if depth == 0:
        raise ValueError("bottom")
    odd(depth - 1)

def odd(depth):
    run(depth - 1)
"""


def recursion_of_other_depth(project: Project) -> Pair:
    module = project.load(RECURSION)
    return caught(module["run"], 3), caught(module["run"], 30)


def mutual_recursion_of_other_depth(project: Project) -> Pair:
    module = project.load(MUTUAL_RECURSION)
    return caught(module["run"], 4), caught(module["run"], 20)


def two_raise_sites_in_one_function(project: Project) -> Pair:
    module = project.load(
        """
        def run(first):
            if first:
                raise ValueError("no funder")
            raise ValueError("no deadline")
        """
    )
    return caught(module["run"], True), caught(module["run"], False)


def same_key_error_from_two_functions(project: Project) -> Pair:
    module = project.load(
        """
        def one(): return {}["name"]
        def other(): return {}["name"]
        """
    )
    return caught(module["one"]), caught(module["other"])


def same_wrapper_with_another_root_cause(project: Project) -> Pair:
    module = project.load(
        """
        def one(): raise KeyError("a")
        def other(): raise OSError("b")
        def run(function):
            try:
                function()
            except Exception as error:
                raise RuntimeError("could not load") from error
        """
    )
    return caught(module["run"], module["one"]), caught(module["run"], module["other"])


TASKS = """
import asyncio

async def fetch(kind):
    raise kind("no answer")

async def gather(kinds):
    async with asyncio.TaskGroup() as group:
        for kind in kinds:
            group.create_task(fetch(kind))

def run(*kinds): asyncio.run(gather(kinds))
"""


def task_group_of_1_and_of_5_equal_errors(project: Project) -> Pair:
    module = project.load(TASKS)
    return caught(module["run"], ValueError), caught(module["run"], *[ValueError] * 5)


def task_group_in_other_order(project: Project) -> Pair:
    module = project.load(TASKS)
    return caught(module["run"], ValueError, KeyError), caught(module["run"], KeyError, ValueError)


def library_upgraded(project: Project) -> Pair:
    old = project.library("def send(): raise ConnectionError('refused')")
    new = project.library("def send(): _send()\ndef _send(): _retry()\ndef _retry(): raise ConnectionError('refused')")
    app = "def run(): send()"
    return project.raised(app, send=old["send"]), project.raised(app, send=new["send"])


def raised_in_a_library_for_two_callers(project: Project) -> Pair:
    library = project.library("def send(): raise ConnectionError('refused')")
    module = project.load("def one(): send()\ndef other(): send()", send=library["send"])
    return caught(module["one"]), caught(module["other"])


@pytest.mark.parametrize(
    ("scenario", "one_group"),
    [
        (id_in_the_message, True),
        (text_in_the_message, True),
        (lines_inserted_above, True),
        (other_absolute_path, True),
        (variable_on_the_raising_line_renamed, True),
        (statement_added_earlier_in_the_function, True),
        (recursion_of_other_depth, True),
        (mutual_recursion_of_other_depth, True),
        (two_raise_sites_in_one_function, False),
        (same_key_error_from_two_functions, False),
        (same_wrapper_with_another_root_cause, False),
        (task_group_of_1_and_of_5_equal_errors, True),
        (task_group_in_other_order, True),
        (library_upgraded, True),
        (raised_in_a_library_for_two_callers, False),
    ],
)
def test_what_is_one_group(project: Project, scenario: Callable[[Project], Pair], one_group: bool) -> None:
    """Two errors share a key exactly if they have one cause."""
    assert are_one_group(project.grouper, scenario(project)) is one_group


# Keys


def test_a_key_is_a_version_and_16_hex_digits(project: Project) -> None:
    """So that a later way of grouping cannot be mistaken for this one."""
    keys = project.grouper.of_exception(project.raised(CHARGE)).keys
    assert len(keys) == 2
    assert all(re.fullmatch("v1:[0-9a-f]{16}", key) for key in keys)


def test_the_keys_are_those_of_the_line_and_of_the_bytecode(project: Project) -> None:
    """A renamed variable changes the first and keeps the second; a new statement does the opposite."""
    grouper = project.grouper
    before = grouper.of_exception(project.raised(CHARGE)).keys
    renamed = grouper.of_exception(project.raised(CHARGE.replace("amount", "total"))).keys
    longer = grouper.of_exception(project.raised(CHARGE.replace("    amount =", "    order += 0\n    amount ="))).keys
    assert renamed[0] != before[0]
    assert renamed[1] == before[1]
    assert longer[0] == before[0]
    assert longer[1] != before[1]


def test_places_in_the_bytecode_are_not_compared_between_versions_of_a_function(project: Project) -> None:
    """The same offset in changed code is another place."""
    one = project.raised("def run(x=1):\n    raise ValueError(x + 1)")
    other = project.raised("def run(x=1):\n    raise ValueError(x - 1)")
    assert one.__traceback__ is not None
    assert other.__traceback__ is not None
    assert one.__traceback__.tb_next.tb_lasti == other.__traceback__.tb_next.tb_lasti  # type: ignore[union-attr]
    assert not are_one_group(project.grouper, (one, other))


def test_code_without_source_has_the_one_key(project: Project) -> None:
    """Where no line is known, the place in the bytecode tells."""
    namespace: dict[str, Any] = {"__name__": "shop.made"}
    exec(compile("def run(): raise ValueError('x')", str(project.folder / "nowhere.py"), "exec"), namespace)
    fingerprint = project.grouper.of_exception(caught(namespace["run"]))
    assert len(fingerprint.keys) == 1
    assert re.fullmatch(r"[0-9a-f]{8}\+\d+", fingerprint.why[-1])


def test_why_is_readable(project: Project) -> None:
    """The type, the functions on the way, and the line."""
    fingerprint = project.grouper.of_exception(project.raised(CHARGE))
    assert fingerprint.why == (
        "ValueError",
        "shop.orders.run",
        "shop.orders.check",
        'raise ValueError(f"order {order} of {amount} failed")',
    )
    assert fingerprint.culprit == "shop.orders.check"
    assert fingerprint.keys[0] == key_of(fingerprint.why)


def test_a_cause_and_a_context_are_told_apart(project: Project) -> None:
    """``raise from`` and raising while another is handled are two things."""
    module = project.load(
        """
        def one():
            try: raise KeyError(1)
            except KeyError as error: raise ValueError(2) from error
        def other():
            try: raise KeyError(1)
            except KeyError: raise ValueError(2)
        def alone():
            try: raise KeyError(1)
            except KeyError: raise ValueError(2) from None
        """
    )
    assert "caused by" in project.grouper.of_exception(caught(module["one"])).why
    assert "while handling" in project.grouper.of_exception(caught(module["other"])).why
    assert "KeyError" not in project.grouper.of_exception(caught(module["alone"])).why


# Groups of exceptions


def test_one_distinct_member_has_the_group_to_itself(project: Project) -> None:
    """Its keys, its culprit and its name; whether it came alone or in a group."""
    module = project.load(TASKS)
    fingerprint = project.grouper.of_exception(caught(module["run"], ValueError, ValueError))
    assert fingerprint.why[0] == "ValueError"
    assert fingerprint.culprit == "shop.orders.fetch"
    assert isinstance(fingerprint.subject, ValueError)


def test_members_of_nested_groups_are_found(project: Project) -> None:
    """A group of groups is the set of its leaves."""
    flat = ExceptionGroup("a", [ValueError("x"), KeyError("y")])
    nested = ExceptionGroup("b", [ExceptionGroup("c", [KeyError("y")]), ValueError("x"), ValueError("x")])
    assert are_one_group(project.grouper, (flat, nested))


def test_a_group_that_is_a_cause_counts_with_its_members(project: Project) -> None:
    """The same wrapper around other members is another error."""

    def wrapped(member: Exception) -> BaseException:
        error = RuntimeError("batch failed")
        error.__cause__ = ExceptionGroup("tasks", [member, member])
        return error

    assert not are_one_group(project.grouper, (wrapped(ValueError("x")), wrapped(KeyError("y"))))
    assert are_one_group(project.grouper, (wrapped(ValueError("x")), wrapped(ValueError("x"))))


def test_the_order_of_members_changes_no_key(project: Project) -> None:
    """Neither the first nor the alias."""
    module = project.load(TASKS)
    one = project.grouper.of_exception(caught(module["run"], ValueError, KeyError))
    other = project.grouper.of_exception(caught(module["run"], KeyError, ValueError, KeyError))
    assert one.keys == other.keys
    assert one.why[0] == "group"


def test_what_a_group_was_raised_beside_changes_nothing(project: Project) -> None:
    """Its implicit context is one of its members, or their cancellation."""
    module = project.load(
        """
        def run(beside):
            try: raise ValueError("x")
            except ValueError as error: member = error
            if not beside: raise ExceptionGroup("g", [member])
            try: raise KeyError("y")
            except KeyError: raise ExceptionGroup("g", [member])
        """
    )
    assert are_one_group(project.grouper, (caught(module["run"], True), caught(module["run"], False)))


def test_cycles_and_endless_chains_end(project: Project) -> None:
    """A group among the causes of its own member, an exception that caused itself, and 100,000 causes."""
    member, loop = ValueError("x"), KeyError("y")
    member.__cause__ = ExceptionGroup("g", [member])
    loop.__cause__ = loop
    first = last = ValueError("0")
    for number in range(100_000):
        last.__cause__ = last = ValueError(str(number))
    for error in (member, member.__cause__, loop, first):
        assert 0 < len(project.grouper.of_exception(error).why) < 100
    assert project.grouper.of_exception(member).why == ("ValueError", "x", "caused by", "ExceptionGroup")
    while first.__cause__ is not None:  # taken apart here: freeing a chain of this length recurses
        first.__cause__, first = None, first.__cause__  # type: ignore[assignment]


# Frames


def test_a_full_stack_is_one_group_wherever_it_strikes(project: Project) -> None:
    """In whatever was called last, and on whichever line of a function that calls itself on two."""
    module = project.load(
        """
        def run(depth, last, left=True):
            if depth == 0: last()
            if left: run(depth - 1, last, left)
            run(depth - 1, last, left)
        def helper(): raise RecursionError
        def other(): raise RecursionError
        """
    )
    run, helper, other = module["run"], module["helper"], module["other"]
    first = caught(run, 5, helper)
    assert are_one_group(project.grouper, (first, caught(run, 6, other)))
    assert are_one_group(project.grouper, (first, caught(run, 5, helper, False)))


def test_a_stack_that_is_really_full_has_a_fingerprint(project: Project) -> None:
    """Made of the functions that call each other."""
    error = project.raised("def run(): other()\ndef other(): run()")
    fingerprint = project.grouper.of_exception(error)
    assert fingerprint.why == ("RecursionError", "shop.orders.run", "shop.orders.other")


def test_without_a_frame_of_the_app_the_library_tells(project: Project) -> None:
    """Its innermost function, without a line."""
    library = project.library("def send(): raise ConnectionError('refused')")
    error = caught(library["send"])
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # this test's own frame
    fingerprint = project.grouper.of_exception(error)
    assert fingerprint.why == ("ConnectionError", "lib.client.send")


def test_without_frames_the_message_tells(project: Project) -> None:
    """An exception that was never raised is grouped by what is left of its text."""
    grouper = project.grouper
    assert are_one_group(grouper, (ValueError("user 1 is gone"), ValueError("user 22 is gone")))
    assert not are_one_group(grouper, (ValueError("user 1 is gone"), ValueError("user 1 is late")))


@pytest.mark.parametrize(
    ("module", "path", "is_in_app"),
    [
        ("shop.orders", "{root}/shop/orders.py", True),
        ("requests.api", "{root}/.venv/lib/python3.11/site-packages/requests/api.py", False),
        ("apt", "/usr/lib/python3/dist-packages/apt/__init__.py", False),
        ("shop.orders", "/elsewhere/shop/orders.py", False),
        ("importlib._bootstrap", "<frozen importlib._bootstrap>", False),
        ("json.decoder", re.__file__, False),
        ("monitoring.spans", "{root}/monitoring/spans.py", False),
        ("monitoring_tools", "{root}/monitoring_tools.py", True),
        ("plugins.gift", "/elsewhere/gift.py", True),
        ("shop.wrappers.retry", "{root}/shop/wrappers.py", False),
    ],
)
def test_which_code_is_the_apps(tmp_path: Path, module: str, path: str, is_in_app: bool) -> None:
    """What is below the project and neither installed nor Python's nor the pack's own; includes and excludes win."""
    decide = InApp(str(tmp_path), include=("plugins",), exclude=("shop.wrappers",))
    assert decide(module, path.format(root=tmp_path)) is is_in_app


def test_without_a_project_all_code_that_is_not_installed_is_the_apps(tmp_path: Path) -> None:
    """An app is started from anywhere; a project's folder, also one behind a link, narrows it down."""
    real, link = tmp_path / "releases" / "7", tmp_path / "current"
    real.mkdir(parents=True)
    link.symlink_to(real)
    assert InApp()("shop", str(tmp_path / "shop.py"))
    assert InApp(str(link))("shop", str(real / "shop.py"))
    assert not InApp(str(link))("shop", str(tmp_path / "shop.py"))


# Explicit fingerprints and messages


def test_an_explicit_fingerprint_wins(project: Project) -> None:
    """Whatever was raised where; its parts are not normalised."""
    grouper = project.grouper
    one = grouper.of_exception(project.raised(CHARGE), ["payment", "provider 1"])
    assert one.keys == grouper.of_exception(ValueError("other"), ["payment", "provider 1"]).keys
    assert one.keys != grouper.of_exception(ValueError("other"), ["payment", "provider 2"]).keys
    assert one.why == ("explicit", "payment", "provider 1")


def test_an_explicit_fingerprint_may_hold_the_default_one(project: Project) -> None:
    """It splits a group further, and keeps both of its keys."""
    grouper, error = project.grouper, project.raised(CHARGE)
    plain = grouper.of_exception(error)
    split = grouper.of_exception(error, [DEFAULT_PART, "tenant 1"])
    assert split.why == ("explicit", *plain.why, "tenant 1")
    assert len(split.keys) == 2
    assert not set(split.keys) & set(plain.keys)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("user 42 not found", "user <number> not found"),
        ("took 1,204.5 ms, 12ms", "took <number> ms, <number>ms"),
        ("proposal 6f9619ff-8b86-d011-b42d-00c04fc964ff", "proposal <uuid>"),
        ("commit deadbeef1234 and word deadbeef", "commit <hex> and word deadbeef"),
        ("at 0x7f00ab", "at <hex>"),
        ("mail to ada@example.org bounced", "mail to <email> bounced"),
        ("GET https://example.org/a/1?b=2 failed", "GET <url> failed"),
        ("host 10.0.0.7 down", "host <ip> down"),
        ("due 2026-11-24T10:00:00Z", "due <date>"),
        ("invalid name 'Ada' given", "invalid name <text> given"),
        ("api v2 and utf8 stay", "api v2 and utf8 stay"),
        ("\n\n  first \n\nsecond\nthird", "first second"),
        ("", ""),
    ],
)
def test_what_varies_in_a_text_is_replaced_by_its_kind(text: str, normal: str) -> None:
    """IDs, numbers, addresses, dates and quoted words; two lines at most."""
    assert normalise(text) == normal


def test_messages_are_grouped_by_what_does_not_vary(project: Project) -> None:
    """Two users are one group; two sentences are two."""
    of = project.grouper.of_message
    assert of("quota of user 1 used up").keys == of("quota of user 2 used up").keys
    assert of("quota of user 1 used up").keys != of("quota of user 1 is low").keys
    assert of("anything", ["quota"]).keys == of("else", ["quota"]).keys
    assert of("quota").subject is None


def test_a_fingerprint_tells_nothing_of_paths_and_lines(project: Project) -> None:
    """The parts of a key would otherwise change with each deploy."""
    fingerprint: Fingerprint = project.grouper.of_exception(project.raised(CHARGE))
    assert str(project.folder) not in " ".join(fingerprint.why)
    assert not any(part.isdigit() for part in fingerprint.why)
