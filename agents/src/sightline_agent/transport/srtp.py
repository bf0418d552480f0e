"""libsrtp for the sending side, through pylibsrtp's binding and without its copies.

pylibsrtp's `Session.protect` copies each packet into its own buffer and out again, which costs more than the
encryption itself. Here the caller builds the packet in one shared buffer, libsrtp encrypts it in place, and the same
buffer goes to the socket. The private names used (`_binding.ffi`, `_binding.lib`, `Session._srtp`) are held by a
contract test.
"""

from collections.abc import Callable
from typing import Any

from pylibsrtp import Error, Policy, Session
from pylibsrtp._binding import ffi, lib

from sightline_agent.media.frames import MAX_PAYLOAD
from sightline_agent.transport.fanout import SendKeys

RTP_HEADER_BYTES = 12
MAX_TRAILER_BYTES = 144
"""libsrtp's SRTP_MAX_TRAILER_LEN: what `protect` may append."""
WINDOW = 1024
"""Replay window in packets; a resent packet must be younger."""

PROFILES: dict[str, int] = {
    "SRTP_AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "SRTP_AES128_CM_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "SRTP_AEAD_AES_256_GCM": Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}

protect: Callable[[Any, Any, Any], int] = lib.srtp_protect
"""`protect(context.handle, buffer.data, buffer.length)` encrypts in place and updates the length; 0: all went well."""


class SrtpError(Exception):
    """libsrtp refuses these keys."""


class PacketBuffer:
    """Where one packet is built and encrypted."""

    def __init__(self) -> None:
        size = RTP_HEADER_BYTES + 2 + MAX_PAYLOAD + MAX_TRAILER_BYTES
        self.data = ffi.new("unsigned char[]", size)
        self.view = memoryview(ffi.buffer(self.data))
        self.length = ffi.new("int *")


class SendContext:
    """Keys, rollover counters and replay state of all streams that we send to one viewer."""

    def __init__(self, keys: SendKeys, repeat: bool) -> None:
        """`repeat` lets a packet be sent again under its own sequence number, for peers without RTX."""
        try:
            policy = Policy(
                key=keys.key + keys.salt,
                ssrc_type=Policy.SSRC_ANY_OUTBOUND,
                srtp_profile=PROFILES[keys.profile],
            )
            policy.allow_repeat_tx = repeat
            policy.window_size = WINDOW
            self._session = Session(policy)
        except (Error, KeyError, ValueError) as error:
            raise SrtpError(f"no SRTP context for {keys.profile}") from error
        self.handle = self._session._srtp[0]

    def protect_rtcp(self, data: bytes) -> bytes | None:
        """A report about one of the streams, encrypted; None where libsrtp refuses."""
        try:
            return self._session.protect_rtcp(data)
        except Error:
            return None
