"""Debian's TURN server, for tests of the mode Relay: a process of its own that knows one shared secret."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sightline_operator.probe import answers

PROGRAM = shutil.which("turnserver", path="/usr/bin:/usr/local/bin")
STARTS_SECONDS = 60.0


@dataclass(frozen=True)
class Coturn:
    """A server that listens."""

    url: str
    secret: str
    log: Path

    def said(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@asynccontextmanager
async def coturn(address: str, port: int, secret: str, relay_ports: tuple[int, int]) -> AsyncIterator[Coturn]:
    """Relays between whoever has credentials made from `secret` and the addresses that `address` reaches."""
    assert PROGRAM, "the Debian package coturn is missing"
    with TemporaryDirectory() as folder:
        log = Path(folder) / "turn.log"
        options = {
            "listening-ip": address,
            "relay-ip": address,
            "listening-port": str(port),
            "min-port": str(relay_ports[0]),
            "max-port": str(relay_ports[1]),
            "realm": "sightline.test",
            "static-auth-secret": secret,
            "log-file": str(log),
            "pidfile": str(Path(folder) / "turn.pid"),
            "userdb": str(Path(folder) / "turn.db"),
        }
        switches = ["-n", "--use-auth-secret", "--no-tls", "--no-dtls", "--no-cli", "--simple-log", "--verbose"]
        process = await asyncio.create_subprocess_exec(
            PROGRAM,
            *switches,
            *(f"--{name}={value}" for name, value in options.items()),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(STARTS_SECONDS):
                while not await answers(address, port):
                    assert process.returncode is None, log.read_text() if log.exists() else "turnserver has ended"
            yield Coturn(f"turn:{address}:{port}?transport=udp", secret, log)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
