"""Connections to servers by name: opened, or told why not without a word about the address."""

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from sightline_agent.sources import dial as module
from sightline_agent.sources.base import SourceError
from sightline_agent.sources.dial import dial, hang_up
from sightline_agent.sources.rtsp.client import connect
from sightline_model.reasons import SourceReason
from tests.helpers.certificates import write_certificate
from tests.helpers.listening import listening
from tests.helpers.two_addresses import two_addresses

HOST = "127.0.0.1"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        writer.write(await reader.read(1024))
        await writer.drain()
    finally:
        writer.close()


async def hears_its_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    assert await reader.read() == b"hello"


async def why(host: str, port: int, *, encrypted: bool = False) -> str:
    with pytest.raises(SourceError) as caught:
        await dial(host, port, "the server", encrypted=encrypted)
    assert caught.value.reason is SourceReason.UNREACHABLE
    return str(caught.value)


async def test_a_connection() -> None:
    async with listening(echo) as port:
        reader, writer = await dial(HOST, port, "the server", encrypted=False)
        await hears_its_echo(reader, writer)
        writer.close()


async def test_an_address_that_never_answers_does_not_keep_us_from_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(echo) as port:
        with two_addresses(monkeypatch, port) as name:
            reader, writer = await dial(name, port, "the server", encrypted=False)
        await hears_its_echo(reader, writer)
        writer.close()


async def test_nor_from_the_next_address_of_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(echo) as port:
        with two_addresses(monkeypatch, port) as name:
            connection = await connect(f"rtsp://{name}:{port}/stream", None, None)
        assert connection.addresses == (HOST, HOST)
        connection.close()
        await asyncio.sleep(0)


async def test_who_does_not_read_keeps_no_connection_open() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            writer.transport.abort()

    async with listening(deaf) as port:
        _, writer = await dial(HOST, port, "the server", encrypted=False)
        writer.write(bytes(32 << 20))
        assert writer.transport.get_write_buffer_size()
        hang_up(writer.transport)
        await asyncio.wait_for(writer.wait_closed(), 20)
        assert writer.get_extra_info("socket").fileno() == -1


async def test_what_was_written_goes_out_before_the_end() -> None:
    heard = asyncio.get_running_loop().create_future()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(len(await reader.read(-1)))
        writer.close()

    async with listening(hear) as port:
        _, writer = await dial(HOST, port, "the server", encrypted=False)
        writer.write(bytes(8 << 20))
        hang_up(writer.transport, 60.0)
        assert await heard == 8 << 20


async def test_who_has_hung_up_an_encrypted_connection_first(tmp_path: Path) -> None:
    file = tmp_path / "server.pem"
    write_certificate(file)
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(file)
    outside = ssl.create_default_context(cafile=file)
    outside.check_hostname = False
    server = await asyncio.start_server(echo, HOST, 0, ssl=inside)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(HOST, port, ssl=outside)
        await hears_its_echo(reader, writer)
        await writer.wait_closed()
        hang_up(writer.transport)
        hang_up(writer.transport)


async def test_nobody_listens() -> None:
    with socket.socket() as bound:
        bound.bind((HOST, 0))
        assert await why(HOST, bound.getsockname()[1]) == "the server cannot be reached: the connection is refused"


async def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the resolver says it; asking one takes as long as it takes."""

    async def unknown(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    assert await why("nobody.invalid", 80) == "the server cannot be reached"


async def test_a_name_that_is_none() -> None:
    assert await why("a" * 64 + ".example", 80) == "the server cannot be reached"


async def test_a_server_without_tls() -> None:
    async with listening(echo) as port:
        assert await why(HOST, port, encrypted=True) == "the server cannot be reached: TLS fails"


async def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    file = tmp_path / "server.pem"
    write_certificate(file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server = await asyncio.start_server(echo, HOST, 0, ssl=context)
    async with server:
        text = await why(HOST, server.sockets[0].getsockname()[1], encrypted=True)
    assert text.startswith("the certificate of the server is not trusted: ")


async def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.0)
    with socket.create_server((HOST, 0)) as deaf:
        assert await why(HOST, deaf.getsockname()[1]) == "the server cannot be reached: nobody answers"
