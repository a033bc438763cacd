"""What a call costs in US dollars: prices of your own first, then a snapshot of genai-prices, else None.

The snapshot (``prices.json``, MIT licence inside, made by ``scripts/update-prices``) is read when the first client is
wrapped. Models are found as genai-prices finds them: date suffixes and other names of a model match by its rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

from .usage import MATH, Usage

PriceContext = Mapping[str, str]
"""What else a price depends on, told by the answer: ``service_tier``, ``processing``, ``speed``."""

SNAPSHOT: Final = Path(__file__).with_name("prices.json")
_FOUND_KEPT: Final = 1_000

_PROVIDERS: Final = {
    "aws.bedrock": "aws",
    "azure.ai.openai": "azure",
    "gcp.gemini": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
    "x_ai": "x-ai",
}
"""Providers that genai-prices calls otherwise than OpenTelemetry does."""

_PARTS: Final[Mapping[str, tuple[str, int, frozenset[str]]]] = {
    "input_mtok": ("input_tokens", 1_000_000, frozenset({"input"})),
    "cache_read_mtok": ("cache_read_tokens", 1_000_000, frozenset({"input", "read"})),
    "cache_write_mtok": ("cache_write_tokens", 1_000_000, frozenset({"input", "write"})),
    "cache_write_1h_mtok": ("cache_write_1h_tokens", 1_000_000, frozenset({"input", "write", "1h"})),
    "input_audio_mtok": ("input_audio_tokens", 1_000_000, frozenset({"input", "audio"})),
    "cache_audio_read_mtok": ("cache_audio_read_tokens", 1_000_000, frozenset({"input", "read", "audio"})),
    "output_mtok": ("output_tokens", 1_000_000, frozenset({"output"})),
    "output_audio_mtok": ("output_audio_tokens", 1_000_000, frozenset({"output", "audio"})),
    "input_image_mtok": ("input_image_tokens", 1_000_000, frozenset({"input", "image"})),
    "output_image_mtok": ("output_image_tokens", 1_000_000, frozenset({"output", "image"})),
    "input_video_mtok": ("input_video_tokens", 1_000_000, frozenset({"input", "video"})),
    "output_video_mtok": ("output_video_tokens", 1_000_000, frozenset({"output", "video"})),
    "output_reasoning_mtok": ("reasoning_tokens", 1_000_000, frozenset({"output", "reasoning"})),
    "requests_kcount": ("requests", 1_000, frozenset({"request"})),
    "web_searches_kcount": ("web_searches", 1_000, frozenset({"web"})),
}
"""Each price's count, the count it is for, and of what it is a part: one with more marks is part of one with fewer."""

_SMALLEST: Final = Decimal("1e-24")
"""US dollars; prices of a token in the snapshot have 23 places at most."""

_NO_CONTEXT: Final[PriceContext] = {}
BATCH: Final[PriceContext] = {"processing": "batch"}

_COMPACT_DATE: Final = re.compile(r"-(20\d\d)(\d\d)(\d\d)(?=-|:|$)")

_own_prices: dict[tuple[str, str], Price] = {}
_found: dict[tuple[str, str], tuple[Model, bool] | None] = {}
_steady: dict[tuple[str, tuple[str, ...]], Price] = {}
"""Prices that are the same on each day and hour, of providers and models as calls name them."""


def set_price(
    model: str,
    *,
    provider: str = "",
    input_usd: Decimal | float | str,
    output_usd: Decimal | float | str = 0,
    cache_read_usd: Decimal | float | str | None = None,
    cache_write_usd: Decimal | float | str | None = None,
) -> None:
    """Set what a million tokens of ``model`` cost in this process, of any provider or of the one that is named.

    Without a price for the cache, its tokens cost what input does. The model is matched by its whole name.
    """
    given = {
        "input_mtok": input_usd,
        "output_mtok": output_usd,
        "cache_read_mtok": cache_read_usd,
        "cache_write_mtok": cache_write_usd,
    }
    rates = {key: str(value) for key, value in given.items() if value is not None}
    _own_prices[provider, model.lower()] = Price(rates)


Cost = tuple[Decimal | None, str]
"""US dollars, None where the price is not known; and who says so: ``provider``, ``own``, ``snapshot`` or ""."""


def cost_of(
    provider: str, models: tuple[str, ...], usage: Usage, context: PriceContext, now: datetime | None = None
) -> Cost:
    """Return what ``usage`` costs by the first of ``models`` that has a price; None where none has one, or where the
    counts contradict each other. What the provider itself says it costs goes before all prices.
    """
    if usage.cost_usd is not None:
        return usage.cost_usd, "provider"
    if not usage.consistent:
        return None, ""
    price = None if context or _own_prices else _steady.get((provider, models))
    source = "snapshot"
    if price is None:
        price, source = _price(provider, models, context, now)
    cost = price.cost(usage) if price is not None else None
    return cost, source if cost is not None else ""


def batch_cost_of(provider: str, model: str, usage: Usage, now: datetime | None = None) -> Cost:
    """Return what requests of a batch cost together; None also where the snapshot has no price for batches."""
    cost, source = cost_of(provider, (model,), usage, BATCH, now)
    found = _find(provider, model.lower())
    if source == "snapshot" and not (found and found[1] and found[0].has_price_for(BATCH, now)):
        return None, ""
    return cost, source


def _price(
    provider: str, models: tuple[str, ...], context: PriceContext, now: datetime | None
) -> tuple[Price | None, str]:
    for model in map(str.lower, models):
        if own := _own_prices.get((provider, model)) or _own_prices.get(("", model)):
            return own, "own"
        found = _find(provider, model)
        if found is not None and (price := found[0].price(context if found[1] else _NO_CONTEXT, now)) is not None:
            if found[0].is_steady and not context and not _own_prices:
                _remember(_steady, (provider, models), price)
            return price, "snapshot"
    return None, ""


def _remember(known: dict[Any, Any], key: Any, value: Any) -> None:
    """Keep what was looked up. Model names come from requests, so it must not be kept for ever."""
    if len(known) >= _FOUND_KEPT:
        known.clear()
    known[key] = value


def load() -> None:
    """Read the snapshot now, so that no call has to."""
    _snapshot()


@cache
def version() -> str:
    """Return what the snapshot was made of, and when."""
    head = _snapshot()
    return f"{head['source']}, {head['date']}"


def _find(provider: str, model: str) -> tuple[Model, bool] | None:
    key = (provider, model)
    try:
        return _found[key]
    except KeyError:
        found = _search(_PROVIDERS.get(provider, provider), model)
        _remember(_found, key, found)
        return found


def _search(provider: str, model: str) -> tuple[Model, bool] | None:
    """Look at the provider. ``openai`` may be any gateway: those name a model after its provider and a slash."""
    table = _table()
    prefix, slash, rest = model.partition("/")
    places = [(provider, model), (prefix, rest)] if slash and provider == "openai" else [(provider, model)]
    for place, name in places:
        if place in table and (found := table[place].find(name, table)):
            return found
    return None


@cache
def _table() -> Mapping[str, Provider]:
    providers = _snapshot()["providers"]
    return {name: Provider(known["models"], known["fallback"]) for name, known in providers.items()}


@cache
def _snapshot() -> Mapping[str, Any]:
    snapshot: dict[str, Any] = orjson.loads(SNAPSHOT.read_bytes())
    return snapshot


@dataclass(slots=True)
class Provider:
    """The models of one provider, in the order in which they are tried; those of others that it offers come after."""

    rows: list[Any]
    fallback: list[str]

    def find(self, model: str, table: Mapping[str, Provider]) -> tuple[Model, bool] | None:
        """Return a model, and whether it is this provider's own rather than one it passes on."""
        for name in dict.fromkeys((model, _dashed_date(model))):
            for place in (self, *(table[other] for other in self.fallback if other in table)):
                for row in place.rows:
                    if _matches(row[0], name):
                        return Model(*row[1:]), place is self
        return None


def _dashed_date(model: str) -> str:
    def dashed(found: re.Match[str]) -> str:
        try:
            return f"-{date(*map(int, found.groups())).isoformat()}"
        except ValueError:
            return found[0]

    return _COMPACT_DATE.sub(dashed, model)


def _matches(rule: Any, model: str) -> bool:
    """Tell whether a rule of the snapshot fits: a string is to be equalled, of a list one is to fit."""
    match rule:
        case str(name):
            return model == name
        case [*rules]:
            return any(_matches(one, model) for one in rules)
        case {"starts": str(start)}:
            return model.startswith(start)
        case {"ends": str(end)}:
            return model.endswith(end)
        case {"contains": str(part)}:
            return part in model
        case {"all": list(rules)}:
            return all(_matches(one, model) for one in rules)
    return re.search(rule["regex"], model) is not None


@dataclass(slots=True)
class Model:
    """The prices of one model: by day or hour, and by what the answer says of its tier."""

    conditional: list[Any]
    variants: list[Any]
    _made: dict[tuple[int, ...], Price | None] = field(default_factory=dict)

    @property
    def is_steady(self) -> bool:
        """Whether its price is the same at all times."""
        return len(self.conditional) == 1

    def price(self, context: PriceContext, now: datetime | None) -> Price | None:
        """Return the price of now; None where it has none by tokens."""
        standard = self._standard(now) if len(self.conditional) > 1 else 0
        special = self._special(context, now) if context and self.variants else ()
        key = (standard, *special)
        if key not in self._made:
            rates = dict(self.conditional[standard][1])
            for place in reversed(special):
                rates.update(self.variants[place][2])
            self._made[key] = Price(rates) if "input_mtok" in rates or "output_mtok" in rates else None
        return self._made[key]

    def has_price_for(self, context: PriceContext, now: datetime | None) -> bool:
        """Tell whether it has another price for what the answer says than the usual one."""
        return bool(self._special(context, now))

    def _standard(self, now: datetime | None) -> int:
        """Return which of the conditional prices holds: the last whose condition is met, else the first."""
        last = len(self.conditional) - 1
        return next((place for place in range(last, -1, -1) if _holds(self.conditional[place][0], now)), 0)

    def _special(self, context: PriceContext, now: datetime | None) -> tuple[int, ...]:
        return tuple(
            place
            for place, (when, condition, rates) in enumerate(self.variants)
            if rates and all(context.get(key) == value for key, value in when.items()) and _holds(condition, now)
        )


def _holds(condition: Any, now: datetime | None) -> bool:
    if condition is None:
        return True
    now = now or datetime.now(UTC)
    if isinstance(condition, str):
        return now.date().isoformat() >= condition
    start, end = map(str, condition)
    clock = now.strftime("%H:%M:%S")
    return start <= clock < end if start <= end else clock >= start or clock < end


class Price:
    """What the parts of a call's usage cost. A part without a price of its own costs what the whole does."""

    __slots__ = ("_plain", "_rates")

    def __init__(self, rates: Mapping[str, Any]) -> None:
        keys = sorted((key for key in rates if key in _PARTS), key=lambda key: -len(_PARTS[key][2]))
        self._rates = [
            (
                _PARTS[key][0],
                *_per_unit(rates[key], _PARTS[key][1]),
                tuple(place for place, part in enumerate(keys) if _PARTS[part][2] > _PARTS[key][2]),
            )
            for key in keys
        ]
        self._plain = self._of_wholes()

    def _of_wholes(self) -> tuple[int, int, int] | None:
        """Return the prices of input, output and the request, for calls without cached tokens and the like; None where
        they depend on the number of tokens.
        """
        prices = {name: price for name, price, tiers, _ in self._rates}
        if any(tiers for _, _, tiers, _ in self._rates):
            return None
        return prices.get("input_tokens", 0), prices.get("output_tokens", 0), prices.get("requests", 0)

    def cost(self, usage: Usage) -> Decimal | None:
        """Return US dollars; None where parts are greater than their whole, or where the price of each of several
        requests depends on its size.
        """
        if self._plain is not None and usage.has_no_parts:
            asked, answered, once = self._plain
            return MATH.multiply(asked * usage.input_tokens + answered * usage.output_tokens + once, _SMALLEST)
        if usage.requests > 1 and self._depends_on_size(usage.input_tokens):
            return None
        total = 0
        counts: list[int] = []
        for name, price, tiers, parts in self._rates:
            count = getattr(usage, name)
            for part in parts:
                count -= counts[part]
            counts.append(count)
            if count:
                if count < 0:
                    return None
                total += count * (_price_in_tier(price, tiers, usage.input_tokens) if tiers else price)
        return MATH.multiply(total, _SMALLEST)

    def _depends_on_size(self, input_tokens: int) -> bool:
        return any(start < input_tokens for _, _, tiers, _ in self._rates for start, _ in tiers)


Tiers = tuple[tuple[int, int], ...]
"""First input token and price, the highest tier first. Past a tier's first token all tokens cost its price."""


def _per_unit(told: Any, units: int) -> tuple[int, Tiers]:
    base, *tiers = told if isinstance(told, list) else [told]
    return _in_smallest(base, units), tuple(
        (start, _in_smallest(price, units)) for start, price in sorted(tiers, reverse=True)
    )


def _in_smallest(told: Any, units: int) -> int:
    """Return a price per unit as a whole number, so that a call's cost is sums and products of those."""
    return round(MATH.divide(MATH.divide(Decimal(told), units), _SMALLEST))


def _price_in_tier(base: int, tiers: Tiers, input_tokens: int) -> int:
    return next((price for start, price in tiers if input_tokens > start), base)
