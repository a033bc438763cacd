"""Caches in the process's own memory: cachetools' mappings, and functions that keep their results."""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import monitoring
from monitoring import Monitoring, families, polled
from monitoring.testing import use

cachetools = pytest.importorskip("cachetools")
KINDS = ["Cache", "FIFOCache", "LFUCache", "LRUCache", "RRCache", "TTLCache", "TLRUCache"]


@pytest.fixture
def m() -> Iterator[Monitoring]:
    polled._known.clear()
    with use() as m:
        yield m


def make(kind: str, size: int = 3, timer: Callable[[], float] = lambda: 0.0) -> Any:
    """Return a cache of a kind, with three entries that live for a minute where it has a clock."""
    extra: dict[str, tuple[Any, ...]] = {
        "TTLCache": (60, timer),
        "TLRUCache": (lambda _key, _value, now: now + 60, timer),
    }
    made = getattr(cachetools, kind)(size, *extra.get(kind, ()))
    made.update({"a": 1, "b": None, "c": 3})
    return made


def counted(m: Monitoring) -> dict[str, float]:
    """Return what was counted of the cache of this test, by what it is."""
    m.polled.read()
    metrics = m.metrics.snapshot()
    names = (families.CACHE_GETS, families.CACHE_PUTS, families.CACHE_REMOVALS, families.CACHE_EVICTIONS)
    found = {}
    for declaration in names:
        for series in metrics[declaration.name].series if declaration.name in metrics else ():
            found[series.labels.get("result", declaration.name.split("_")[1])] = series.value
    return found


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (lambda cache: cache["a"], {"hit": 1}),
        (lambda cache: cache["b"], {"hit": 1}),
        (lambda cache: cache.get("a"), {"hit": 1}),
        (lambda cache: cache.get("b", 7), {"hit": 1}),
        (lambda cache: cache.get("z"), {"miss": 1}),
        (lambda cache: cache.get("z", default=7), {"miss": 1}),
        (lambda cache: "a" in cache, {}),
        (lambda cache: cache.pop("a"), {"removals": 1}),
        (lambda cache: cache.pop("z", None), {}),
        (lambda cache: cache.setdefault("a", 9), {}),
        (lambda cache: cache.__delitem__("a"), {"removals": 1}),
        (lambda cache: cache.__setitem__("a", 9), {"puts": 1}),
        (lambda cache: cache.__setitem__("z", 9), {"puts": 1, "evictions": 1}),
        (lambda cache: cache.update({"y": 8, "z": 9}), {"puts": 2, "evictions": 2}),
        (lambda cache: cache.setdefault("z", 9), {"puts": 1, "evictions": 1}),
        (lambda cache: cache.popitem(), {"removals": 1}),
        (lambda cache: cache.clear(), {}),
        (lambda cache: list(cache.items()), {"hit": 3}),
    ],
)
def test_what_is_asked_of_a_mapping_is_counted_once(
    m: Monitoring, kind: str, work: Callable[[Any], object], expected: dict[str, float]
) -> None:
    """Whatever it does of its own to answer, and with the answer that it gives anyway."""
    bare, cache = make(kind), monitoring.wrap(make(kind))
    answer = work(cache)
    if kind != "RRCache":  # it chooses at random
        assert (answer, dict(cache)) == (work(bare), dict(bare))
        expected = {**expected, "hit": expected.get("hit", 0) + len(bare)}
        assert {name: value for name, value in counted(m).items() if value} == {
            name: value for name, value in expected.items() if value
        }
    else:
        assert counted(m) == expected


def test_a_missing_item_is_a_miss_and_a_key_error(m: Monitoring, kind: str) -> None:
    """As ever."""
    cache = monitoring.wrap(make(kind))
    with pytest.raises(KeyError, match="z"):
        cache["z"]
    with pytest.raises(KeyError, match="z"):
        cache.pop("z")
    assert counted(m) == {"miss": 1}


class Loading(cachetools.LRUCache):  # type: ignore[misc]
    """A cache that makes what it does not have."""

    def __missing__(self, key: Any) -> Any:
        self[key] = key
        return key


def test_an_item_that_is_made_when_missing_is_a_miss(m: Monitoring) -> None:
    """And one thing stored."""
    cache = monitoring.wrap(Loading(3))
    assert [cache["a"], cache["a"]] == ["a", "a"]
    assert counted(m) == {"miss": 1, "puts": 1, "hit": 1}


def test_what_grew_too_old_is_given_up(m: Monitoring) -> None:
    """It is a miss when it is asked for."""
    now = [0.0]
    cache = monitoring.wrap(make("TTLCache", timer=lambda: now[0]))
    now[0] = 61.0
    assert cache.get("a") is None
    cache["z"] = 1
    assert counted(m) == {"miss": 1, "puts": 1, "evictions": 3}


def test_a_wrapped_mapping_is_the_same_object(kind: str) -> None:
    """Of a class that says the same of itself."""
    cache = make(kind)
    bare = type(cache)
    assert monitoring.wrap(monitoring.wrap(cache)) is cache
    assert isinstance(cache, bare)
    assert (type(cache).__name__, type(cache).__module__) == (bare.__name__, bare.__module__)
    assert repr(cache) == repr(make(kind))


def test_unwrap_puts_back_what_was_there(m: Monitoring, kind: str) -> None:
    """Class and attributes; and nothing is counted any more."""
    cache = make(kind)
    before = type(cache), set(vars(cache))
    monitoring.unwrap(monitoring.wrap(cache))
    cache.get("a")
    assert (type(cache), set(vars(cache))) == before
    assert counted(m) == {}


@pytest.mark.parametrize("kind", [name for name in KINDS if name not in ("TTLCache", "TLRUCache")])
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_copies_are_caches_of_their_own(m: Monitoring, kind: str, duplicate: Callable[[Any], Any]) -> None:
    """They are not wrapped, and can be."""
    cache = make(kind)
    bare = type(cache)
    other = duplicate(monitoring.wrap(cache))
    assert (type(other), dict(other)) == (bare, {"a": 1, "b": None, "c": 3})
    assert counted(m) == {}
    monitoring.wrap(other).get("a")
    assert counted(m) == {"hit": 1}


def test_a_mapping_counts_where_a_function_keeps_its_results_in_it(m: Monitoring) -> None:
    """A look-up at a time, also with a lock."""
    cache = monitoring.wrap(cachetools.LRUCache(3))

    @cachetools.cached(cache, lock=threading.RLock())
    def double(number: int) -> int:
        return 2 * number

    assert [double(1), double(1)] == [2, 2]
    assert counted(m) == {"miss": 1, "puts": 1, "hit": 1}


def doubled(number: int) -> int:
    """Return twice a number."""
    return 2 * number


FUNCTIONS: dict[str, Callable[[], Any]] = {
    "lru_cache": lambda: functools.lru_cache(3)(doubled),
    "cached": lambda: cachetools.cached(cachetools.LRUCache(3), info=True)(doubled),
    "cached with a lock": lambda: cachetools.cached(cachetools.TTLCache(3, 60), lock=threading.Lock(), info=True)(
        doubled
    ),
}


@pytest.fixture(params=list(FUNCTIONS))
def function(request: pytest.FixtureRequest) -> Any:
    return FUNCTIONS[request.param]()


def test_a_function_that_keeps_its_results_is_read(m: Monitoring, function: Any) -> None:
    """Nothing of it is replaced, and its name is its own."""
    function(7)
    assert monitoring.wrap(monitoring.wrap(function)) is function
    assert [function(number) for number in (7, 7, 8)] == [14, 14, 16]
    assert counted(m) == {"hit": 2, "miss": 1}
    (size,) = m.metrics.snapshot()[families.CACHE_SIZE.name].series
    assert (size.labels["cache"], size.value) == (f"{__name__}.doubled", 2)


def test_a_function_that_was_cleared_counts_on(m: Monitoring, function: Any) -> None:
    """Its statistics begin anew."""
    monitoring.wrap(function, name="doubled")
    for number in (7, 7, 7):
        function(number)
    m.polled.read()
    function.cache_clear()
    function(7)
    assert counted(m) == {"hit": 2, "miss": 2}


def test_an_unwrapped_function_is_left_alone(m: Monitoring, function: Any) -> None:
    """As before."""
    monitoring.unwrap(monitoring.wrap(function))
    function(7)
    assert counted(m) == {}


def test_nothing_is_kept_alive(m: Monitoring) -> None:
    """Caches die with their owners."""
    caches = [monitoring.wrap(make("LRUCache")), monitoring.wrap(FUNCTIONS["lru_cache"]())]
    references = [weakref.ref(one) for one in caches]
    caches.clear()
    gc.collect()
    m.polled.read()
    assert [reference() for reference in references] == [None, None]


def test_a_function_that_keeps_nothing_is_refused() -> None:
    """The message says what it would need."""
    with pytest.raises(TypeError, match=r"builtins\.function: it has no cache_info\(\)"):
        monitoring.wrap(doubled)


def test_a_clock_without_a_lock_is_refused() -> None:
    """To ask such a cache for its size is to change it."""
    function = cachetools.cached(cachetools.TTLCache(3, 60), info=True)(doubled)
    with pytest.raises(TypeError, match="unless cached\\(\\) has a lock"):
        monitoring.wrap(function)
