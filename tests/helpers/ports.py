"""Ports for servers that take a number and cannot choose one themselves.

A port that the kernel chose and that is given back may be anybody's before the server is up: on a busy machine each
outgoing connection gets one of the same range. These are of a range below it, which nobody is given by chance.
"""

import secrets
import socket

_FIRST, _LAST = 12_000, 19_998
"""Below what the kernel gives away (32768 and above) and below the ports that tests of the node name."""


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    while True:
        port = _drawn()
        if _is_free(port, kind):
            return port


def free_pair() -> int:
    """An even UDP port whose neighbour is free as well."""
    while True:
        port = _drawn() & ~1
        if _is_free(port, socket.SOCK_DGRAM) and _is_free(port + 1, socket.SOCK_DGRAM):
            return port


def _drawn() -> int:
    # Not from `random`, which begins alike in every test: two that run side by side would draw the same.
    return _FIRST + secrets.randbelow(_LAST - _FIRST)


def _is_free(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(type=kind) as probe:
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
