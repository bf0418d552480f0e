"""A name with two addresses, the first of which never answers: as of a host whose IPv6 leads nowhere."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

SILENT, HOST = "127.0.0.2", "127.0.0.1"


@contextlib.contextmanager
def two_addresses(monkeypatch: pytest.MonkeyPatch, port: int) -> Iterator[str]:
    """The name, in the running loop; at its second address that port is served."""
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.socket())
        silent.bind((SILENT, port))
        silent.listen(0)
        # With its queue full, Linux leaves every further SYN without an answer.
        for _ in range(8):
            knocking = stack.enter_context(socket.socket())
            knocking.setblocking(False)
            knocking.connect_ex(silent.getsockname())

        async def found(*_: Any, **__: Any) -> list[Any]:
            stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
            return [(*stream, (host, port)) for host in (SILENT, HOST)]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
        yield "camera.example"
