"""Clients are known by their class, whoever imports what first and under whichever name."""

from __future__ import annotations

import subprocess
import sys

import pytest

MONITORING = "import monitoring\nfrom monitoring.testing import MemorySink, use"
CLIENTS = {
    "httpx": ("from httpx import Client as C", "C()", "client.get({url!r})"),
    "httpx2": ("from httpx2 import Client as C", "C()", "client.get({url!r})"),
    "requests": ("from requests import Session as C", "C()", "client.get({url!r})"),
    "urllib3": ("from urllib3 import PoolManager as C", "C()", "client.request('GET', {url!r})"),
}


@pytest.mark.parametrize("is_first", [True, False], ids=["monitoring first", "library first"])
@pytest.mark.parametrize("library", CLIENTS)
def test_the_order_of_imports_does_not_matter(library: str, is_first: bool, http_port: int) -> None:
    """Also a client that was made before anything of ours was imported is observed, once it is wrapped."""
    load, make, call = CLIENTS[library]
    made = f"{load}\nclient = {make}"
    begin = f"{MONITORING}\n{made}" if is_first else f"{made}\n{MONITORING}"
    program = (
        f"{begin}\nsink = MemorySink()\nwith use(sink):\n"
        f"    monitoring.wrap(client)\n    {call.format(url=f'http://127.0.0.1:{http_port}/200')}\n"
        "print([call.name for call in sink.observations])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "['GET 127.0.0.1']\n"


def test_wrapping_one_client_imports_no_other_library() -> None:
    """The object brings its library along."""
    program = (
        "import sys, urllib3, monitoring\nmonitoring.wrap(urllib3.PoolManager())\n"
        "print(sorted({'requests', 'httpx', 'httpx2', 'aiohttp'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
