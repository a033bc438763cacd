"""MCP's clients: calls to the tools of a server, by the name of the tool. Arguments and results are not looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monitoring.calls import ToolCall
from monitoring.context import present_block
from monitoring.integrations.attachment import Detach, Link, observing_async, replace_attribute
from monitoring.integrations.layers import lies_below

from .running import NAME_LENGTH


def carrier(client: Any) -> Any:
    """Return the session or client itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Observe ``call_tool``. A ``Client`` works through a session, which may be wrapped, too."""
    call_tool = client.call_tool
    if hasattr(client, "session"):
        observed = observing_async(link, _describe, call_tool, "span")
    else:
        lies_below("span")
        observed = observing_async(link, _describe, call_tool)
    return replace_attribute(client, "call_tool", _with_name_first(observed))


def _with_name_first(call_tool: Callable[..., Any]) -> Callable[..., Any]:
    def named(name: str, *args: Any, **kwargs: Any) -> Any:
        return call_tool(name, *args, **kwargs)

    return named


def _describe(args: tuple[Any, ...], started: float, result: Any, error: BaseException | None) -> ToolCall | None:
    name = str(args[0])[:NAME_LENGTH]
    block = present_block()
    if block is not None and block.name == name:
        return None  # a framework tells of the same tool
    call = ToolCall(started, error)
    call.name = name
    if error is None and (getattr(result, "is_error", None) or getattr(result, "isError", None)):
        call.outcome, call.error_type = "error", "tool_error"
    return call
