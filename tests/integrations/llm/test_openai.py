"""OpenAI's SDK: every way to make a call, and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import openai
import pytest

import monitoring
from monitoring.integrations.llm.openai import provider_of
from monitoring.testing import MemorySink
from tests.integrations.llm.subjects import GPT, WITH_USAGE, OpenAISubject, calls, http_library, says

httpx = http_library(openai)
PRICE = 111 * Decimal("2.50") / 1_000_000 + 22 * Decimal("10") / 1_000_000


@pytest.fixture
def client(llm_port: int) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(**OpenAISubject(llm_port).settings) as client:
        yield monitoring.wrap(client)


def _chat(client: Any) -> None:
    client.chat.completions.create(model=GPT, messages=says("hello"))


def _parse(client: Any) -> None:
    client.chat.completions.parse(model=GPT, messages=says("hello"))


def _responses(client: Any) -> None:
    client.responses.create(model=GPT, input=says("hello"))


def _raw(client: Any) -> None:
    client.chat.completions.with_raw_response.create(model=GPT, messages=says("hello")).parse()


def _raw_unparsed(client: Any) -> None:
    assert client.chat.completions.with_raw_response.create(model=GPT, messages=says("hello")).headers


def _streaming_response(client: Any) -> None:
    with client.chat.completions.with_streaming_response.create(model=GPT, messages=says("hello")) as response:
        assert response.parse().choices


def _streaming_response_as_json(client: Any) -> None:
    with client.chat.completions.with_streaming_response.create(model=GPT, messages=says("hello")) as response:
        assert response.json()["choices"]


def _with_options(client: Any) -> None:
    client.with_options(timeout=5).chat.completions.create(model=GPT, messages=says("hello"))


def _copy_of_copy(client: Any) -> None:
    client.copy().with_options(timeout=5).chat.completions.create(model=GPT, messages=says("hello"))


@pytest.mark.parametrize(
    "call",
    [
        _chat,
        _parse,
        _responses,
        _raw,
        _raw_unparsed,
        _streaming_response,
        _streaming_response_as_json,
        _with_options,
        _copy_of_copy,
    ],
)
def test_every_way_to_call_is_one_observation_with_tokens_and_cost(
    client: openai.OpenAI, sink: MemorySink, call: Callable[[Any], None]
) -> None:
    """Whichever way an answer is asked for, its usage is known, and so is what it costs."""
    call(client)
    (seen,) = calls(sink)
    assert (seen.name, seen.provider, seen.operation, seen.model) == ("chat gpt-4o", "openai", "chat", GPT)
    assert (seen.response_model, seen.outcome, seen.streamed) == (GPT, "ok", False)
    assert (seen.has_usage, seen.input_tokens, seen.output_tokens) == (True, 111, 22)
    assert seen.cost_usd == PRICE


def _stream(client: Any) -> None:
    list(client.chat.completions.create(model=GPT, messages=says("hello"), stream=True, stream_options=WITH_USAGE))


def _stream_helper(client: Any) -> None:
    with client.chat.completions.stream(model=GPT, messages=says("hello"), stream_options=WITH_USAGE) as stream:
        assert stream.get_final_completion().choices


def _responses_stream(client: Any) -> None:
    list(client.responses.create(model=GPT, input=says("hello"), stream=True))


def _responses_stream_helper(client: Any) -> None:
    with client.responses.stream(model=GPT, input=says("hello")) as stream:
        assert stream.get_final_response()


def _raw_stream(client: Any) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=GPT, messages=says("hello"), stream=True, stream_options=WITH_USAGE
    )
    list(raw.parse())


@pytest.mark.parametrize("call", [_stream, _stream_helper, _responses_stream, _responses_stream_helper, _raw_stream])
def test_every_way_to_stream_is_one_observation_at_its_end(
    client: openai.OpenAI, sink: MemorySink, call: Callable[[Any], None]
) -> None:
    """A stream read to its end tells tokens, cost and the time to its first chunk."""
    call(client)
    (seen,) = calls(sink)
    assert (seen.outcome, seen.streamed, seen.response_model) == ("ok", True, GPT)
    assert (seen.input_tokens, seen.output_tokens, seen.cost_usd) == (111, 22, PRICE)
    assert 0 < seen.first_chunk_seconds <= seen.duration_seconds


def test_a_stream_is_what_the_sdk_made(client: openai.OpenAI, sink: MemorySink) -> None:
    """Its type, its response, iteration by hand and the with block are the SDK's."""
    with client.chat.completions.create(model=GPT, messages=says("hello"), stream=True) as stream:
        assert type(stream) is openai.Stream
        assert stream.response.status_code == 200
        chunks = [next(stream), *stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Good morning to you, my friend."
    assert [seen.outcome for seen in calls(sink)] == ["ok"]


def test_a_stream_without_usage_has_no_cost(client: openai.OpenAI, sink: MemorySink) -> None:
    """Nobody asked for usage and the request is left as it is, so tokens and cost are unknown, and not 0."""
    list(client.chat.completions.create(model=GPT, messages=says("hello"), stream=True))
    (seen,) = calls(sink)
    assert (seen.has_usage, seen.cost_usd) == (False, None)


def test_embeddings_are_an_operation_of_their_own(client: openai.OpenAI, sink: MemorySink) -> None:
    """They have a name of their own."""
    client.embeddings.create(model="text-embedding-3-small", input="hello")
    assert [(seen.name, seen.operation) for seen in calls(sink)] == [
        ("embeddings text-embedding-3-small", "embeddings")
    ]


def test_completions_are_an_operation_of_their_own(sink: MemorySink) -> None:
    """The old text completions are seen too."""
    body = {"model": "davinci-002", "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 2}}
    answered(body).completions.create(model="davinci-002", prompt="hello")
    (seen,) = calls(sink)
    assert (seen.name, seen.operation, seen.input_tokens) == ("text_completion davinci-002", "text_completion", 10)


def test_other_requests_of_the_sdk_are_no_calls(sink: MemorySink) -> None:
    """Listing models is not a call to one, nor is fetching a response that was made before."""
    client = answered({"data": [], "id": "resp_1", "usage": {"input_tokens": 1, "output_tokens": 1}})
    client.models.list()
    client.responses.retrieve("resp_1")
    assert sink.observations == []


def test_a_failed_response_is_an_error(sink: MemorySink) -> None:
    """The SDK raises nothing for it, and yet it has failed."""
    answered({"id": "resp_1", "model": GPT, "status": "failed", "output": []}).responses.create(model=GPT, input="x")
    assert [(seen.outcome, seen.error_type) for seen in calls(sink)] == [("error", "ResponseFailed")]


def test_what_the_provider_bills_goes_before_all_prices(sink: MemorySink) -> None:
    """OpenRouter tells the cost."""
    body = {"model": GPT, "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 2, "cost": 0.00042}}
    answered(body).chat.completions.create(model=GPT, messages=says("hello"))
    assert [seen.cost_usd for seen in calls(sink)] == [Decimal("0.00042")]


BILLED: dict[str, tuple[dict[str, Any], str | None]] = {
    "openrouter": ({"cost": 0.95, "cost_details": {"upstream_inference_cost": 0.95}, "is_byok": False}, "0.95"),
    "openrouter, by a key of one's own": (
        {"cost": 0.95, "cost_details": {"upstream_inference_cost": 19}, "is_byok": True},
        "19.95",
    ),
    "openrouter, by a key of one's own, of a silent provider": ({"cost": 0, "is_byok": True}, None),
    "perplexity": (
        {
            "cost": {
                "input_tokens_cost": 0.00002,
                "output_tokens_cost": 0.0001,
                "request_cost": 0.005,
                "total_cost": 0.00512,
            }
        },
        "0.00512",
    ),
    "perplexity's responses": ({"cost": {"currency": "USD", "total_cost": 0.0031}}, "0.0031"),
    "another currency": ({"cost": {"currency": "EUR", "total_cost": 0.0031}}, None),
    "xai": ({"cost_in_usd_ticks": 37_756_000}, "0.0037756"),
    "nonsense": ({"cost_in_usd_ticks": -1}, None),
}


@pytest.mark.parametrize("told", BILLED)
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_each_provider_tells_its_bill_in_its_own_way(sink: MemorySink, told: str, is_stream: bool) -> None:
    """As their documentation has it; what is no bill is no price either."""
    cost, expected = BILLED[told]
    usage = {"prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196, **cost}
    client = answered({"model": "mine", "choices": [], "usage": usage}, is_stream=is_stream)
    answer = client.chat.completions.create(model="mine", messages=says("hello"), stream=is_stream)
    assert not is_stream or list(answer)
    (seen,) = calls(sink)
    assert seen.cost_usd == (None if expected is None else Decimal(expected))
    assert seen.price_source == ("" if expected is None else "provider")


@pytest.mark.parametrize(
    ("header", "is_stream", "cost"),
    [
        ("3.45e-05", False, Decimal("0.0000345")),
        ("0.0", False, PRICE),
        ("None", False, PRICE),
        ("3.45e-05", True, PRICE),
    ],
    ids=["told", "no price", "no number", "stream"],
)
def test_litellms_proxy_tells_the_cost_in_a_header(
    sink: MemorySink, header: str, is_stream: bool, cost: Decimal
) -> None:
    """Of a whole answer, if it has a price for it."""
    body = {"model": GPT, "choices": [], "usage": {"prompt_tokens": 111, "completion_tokens": 22}}
    headers = {"x-litellm-call-id": "1", "x-litellm-response-cost": header}
    client = answered(body, is_stream=is_stream, headers=headers)
    for _ in range(2):
        answer = client.chat.completions.create(model=GPT, messages=says("hello"), stream=is_stream)
        assert not is_stream or list(answer)
    assert [seen.cost_usd for seen in calls(sink)] == [cost, cost]


def test_the_tier_of_the_answer_decides_the_price(sink: MemorySink) -> None:
    """A priority answer costs more than a default one, whatever was asked for."""
    costs = []
    for tier in ("default", "priority"):
        body = {"model": "gpt-5", "choices": [], "service_tier": tier, "usage": {"prompt_tokens": 1_000_000}}
        answered(body).chat.completions.create(model="gpt-5", messages=says("hello"))
        costs.append(calls(sink)[-1].cost_usd)
    assert costs == [Decimal("1.25"), Decimal("2.5")]


def test_the_http_layer_below_keeps_quiet(llm_port: int, sink: MemorySink) -> None:
    """Where the SDK's own HTTP client is wrapped too, an LLM call is one observation; its other requests are seen."""
    with httpx.Client() as http:
        client = openai.OpenAI(**OpenAISubject(llm_port).settings, http_client=monitoring.wrap(http))
        _chat(monitoring.wrap(client))
        client.models.list()
    assert [seen.kind for seen in sink.observations] == ["llm", "http"]


def test_retries_belong_to_one_call(sink: MemorySink) -> None:
    """The SDK's attempts are within one observation."""

    def answer(request: httpx.Request) -> httpx.Response:
        attempts.append(request)
        if len(attempts) == 1:
            return httpx.Response(429, headers={"retry-after-ms": "1"}, json={})
        return httpx.Response(200, json={"model": GPT, "choices": []})

    attempts: list[httpx.Request] = []
    transport = httpx.MockTransport(answer)
    client = openai.OpenAI(api_key="x", http_client=httpx.Client(transport=transport), max_retries=2)
    _chat(monitoring.wrap(client))
    assert (len(attempts), [seen.outcome for seen in calls(sink)]) == (2, ["ok"])


def test_the_request_is_left_as_it_is(sink: MemorySink) -> None:
    """What goes to the provider is byte for byte what goes there without us."""

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append((str(request.url), request.read(), sorted(request.headers)))
        return httpx.Response(200, json={"model": GPT, "choices": []})

    sent: list[tuple[str, bytes, list[str]]] = []
    client = openai.OpenAI(api_key="x", http_client=httpx.Client(transport=httpx.MockTransport(answer)))
    _chat(client)
    _chat(monitoring.wrap(client))
    assert len(calls(sink)) == 1
    assert sent[0] == sent[1]


def test_copies_made_after_unwrap_are_bare(client: openai.OpenAI, sink: MemorySink) -> None:
    """``with_options`` is the SDK's own again."""
    monitoring.unwrap(client)
    _with_options(client)
    assert sink.observations == []


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("my-resource.openai.azure.com", "azure.ai.openai"),
        ("api.groq.com", "groq"),
        ("api.deepseek.com", "deepseek"),
        ("api.x.ai", "x_ai"),
        ("openrouter.ai", "openrouter"),
        ("127.0.0.1", "openai"),
        ("llm.intern.example", "openai"),
        ("notx.ai", "openai"),
    ],
)
def test_the_provider_is_known_by_its_host(host: str, provider: str) -> None:
    """The SDK serves whoever speaks its protocol."""
    assert provider_of(host) == provider


def test_azure_clients_are_known_by_their_base(sink: MemorySink) -> None:
    """A subclass of the SDK's client is wrapped like the client, and the answer's model has the price."""
    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, json={"model": "gpt-4o-2024-08-06", "choices": [], "usage": {"prompt_tokens": 4}})
    )
    client = openai.AzureOpenAI(
        azure_endpoint="https://mine.openai.azure.com",
        api_key="x",
        api_version="2024-06-01",
        http_client=httpx.Client(transport=transport),
    )
    monitoring.wrap(client).chat.completions.create(model="my-deployment", messages=says("hello"))
    (seen,) = calls(sink)
    assert (seen.provider, seen.model, seen.cost_usd) == ("azure.ai.openai", "my-deployment", Decimal("0.00001"))


def answered(body: dict[str, Any], *, is_stream: bool = False, headers: Any = None) -> openai.OpenAI:
    """Return a wrapped client that gets ``body`` for an answer, or for the only chunk of one."""
    kind = "text/event-stream" if is_stream else "application/json"
    text = f"data: {json.dumps(body)}\n\ndata: [DONE]\n\n" if is_stream else json.dumps(body)

    def answer(_: Any) -> Any:
        return httpx.Response(200, content=text, headers={"content-type": kind, **(headers or {})})

    http = httpx.Client(transport=httpx.MockTransport(answer))
    return monitoring.wrap(openai.OpenAI(api_key="x", http_client=http))
