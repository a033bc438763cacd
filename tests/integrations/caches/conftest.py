"""A Redis cluster of three nodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.components import require
from tests.support.processes import free_port, poll, running

SLOTS = 16_384
NODES = 3


@pytest.fixture(scope="session")
def cluster_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of one of three masters that share the slots of a Redis cluster."""
    redis = pytest.importorskip("redis")
    program = require("redis-server", "redis")
    with ExitStack() as stack:
        nodes = [_node(stack, redis, program, tmp_path_factory.mktemp("node")) for _ in range(NODES)]
        for number, (client, _) in enumerate(nodes):
            first, last = SLOTS * number // NODES, SLOTS * (number + 1) // NODES
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last - 1)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        port, bus = nodes[0][0].get_connection_kwargs()["port"], nodes[0][1]
        for client, _ in nodes[1:]:
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus)
        poll(lambda: all(_is_whole(client) for client, _ in nodes), "the cluster")
        yield port


def _node(stack: ExitStack, redis: Any, program: str, folder: Path) -> tuple[Any, int]:
    bus = free_port()

    def command(port: int) -> list[str]:
        options = f"--port {port} --cluster-port {bus} --bind 127.0.0.1 --cluster-enabled yes --appendonly no"
        return [program, *options.split(), "--save", "", "--dir", str(folder)]

    def answers(port: int) -> bool:
        with suppress(redis.ConnectionError), redis.Redis(port=port) as client:
            return bool(client.ping())
        return False

    _, port = stack.enter_context(running(command, answers, folder / "log", cwd=folder))
    return stack.enter_context(redis.Redis(port=port)), bus


def _is_whole(client: Any) -> bool:
    """Say whether a node knows who serves each slot."""
    return "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO"))
