"""One WHEP session: offer, answer, the peer connection, and its end.

The peer connection is aiortc's: ICE, DTLS, SRTP, receiver reports, NACK and retransmissions are its work. It would also
decode every picture, which we do not want to pay for; so packets are taken over where its jitter buffer would get
them (`_take_over`), and its decoder never sees one. That place is private to aiortc, whose version is pinned; a test
of a whole session fails if it moves.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.rtcconfiguration import RTCBundlePolicy
from aiortc.rtp import RtpPacket as AiortcPacket

from sightline_agent.media.rtp import RtpPacket
from sightline_agent.sources import http
from sightline_agent.sources.base import SourceError
from sightline_agent.sources.whep.reception import Reception
from sightline_agent.sources.whep.sound import Hearing
from sightline_model.problems import ProblemCode
from sightline_model.reasons import SourceReason

IT = "the WHEP server"
POST_SECONDS = 8.0
_DELETE_SECONDS = 1.0
_GOODBYE_SECONDS = 1.5
_MAX_ANSWER_BYTES = 64 * 1024
_SDP_TYPE = "application/sdp"
_JITTER_BUFFER = "_RTCRtpReceiver__jitter_buffer"
_VIDEO = re.compile(r"^m=video ([0-9]+) ", re.MULTILINE)
_H264 = re.compile(r"^a=rtpmap:[0-9]+ H264/90000\s*$", re.MULTILINE | re.IGNORECASE)
_SOUNDS = ("audio/opus", "audio/PCMU", "audio/PCMA")
_TOKEN = re.compile(r"[!-~]+")


class Session:
    """A session with the server at `url`."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        if token and not _TOKEN.fullmatch(token):
            text = "the token holds characters that cannot be sent"
            raise SourceError(SourceReason.AUTHENTICATION_FAILED, text)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self._receiver: RTCRtpReceiver | None = None
        self._resource: str | None = None
        self.changed = asyncio.Event()
        """Set when there is something to look at."""
        self._connection.on("connectionstatechange", self.changed.set)

    @property
    def state(self) -> str:
        """aiortc's word for the state of the connection."""
        return str(self._connection.connectionState)

    async def open(self, reception: Reception, hearing: Hearing | None = None) -> None:
        """Up to the answer; SourceError. With `hearing` sound is asked for, too."""
        transceiver = self._connection.addTransceiver("video", direction="recvonly")
        offered = RTCRtpReceiver.getCapabilities("video")
        codecs = offered.codecs if offered is not None else []
        transceiver.setCodecPreferences([c for c in codecs if c.mimeType in ("video/H264", "video/rtx")])
        self._receiver = transceiver.receiver
        _take_over(self._receiver, reception.packet)
        if hearing is not None:
            self._listen(hearing)
        await self._connection.setLocalDescription(await self._connection.createOffer())
        answer = await self._post(self._connection.localDescription.sdp)
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        except Exception as error:  # aiortc raises all kinds for an answer that it does not like
            text = f"{IT} gives an answer that makes no sense"
            raise SourceError(SourceReason.PROTOCOL_ERROR, text) from error
        if hearing is not None:
            hearing.answered(answer)

    def _listen(self, hearing: Hearing) -> None:
        def take(packet: RtpPacket) -> bool:
            hearing.packet(packet)
            return False

        transceiver = self._connection.addTransceiver("audio", direction="recvonly")
        offered = RTCRtpReceiver.getCapabilities("audio")
        codecs = offered.codecs if offered is not None else []
        transceiver.setCodecPreferences([codec for codec in codecs if codec.mimeType in _SOUNDS])
        _take_over(transceiver.receiver, take)

    async def ask_key_frame(self, ssrc: int) -> None:
        """Send a PLI."""
        if self._receiver is not None:
            await self._receiver._send_rtcp_pli(ssrc)

    async def close(self) -> None:
        """Say goodbye, within a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await asyncio.gather(self._delete(), self._connection.close())

    async def _post(self, offer: str) -> str:
        headers = {"Content-Type": _SDP_TYPE, "Accept": _SDP_TYPE, **self._headers}
        request = http.Request("POST", self._url, IT, headers, offer.encode(), _MAX_ANSWER_BYTES, POST_SECONDS)
        response = await http.fetch(request)
        if not response.ok:
            raise _refusal(response)
        location = response.headers.get("location")
        self._resource = urljoin(response.url, location) if location else None
        answer = response.body.decode("utf-8", "replace")
        video = _VIDEO.search(answer)
        if not answer.startswith("v=0") or video is None:
            raise SourceError(SourceReason.PROTOCOL_ERROR, f"{IT} gives no answer for video")
        if video[1] == "0" or not _H264.search(answer):
            raise SourceError(SourceReason.CODEC_UNSUPPORTED, f"{IT} does not send H264")
        return answer

    async def _delete(self) -> None:
        if self._resource is None:
            return
        headers = self._headers if http.same_origin(self._resource, self._url) else {}
        with contextlib.suppress(SourceError):
            await http.fetch(http.Request("DELETE", self._resource, IT, headers, seconds=_DELETE_SECONDS))


def _refusal(response: http.Response) -> SourceError:
    problem = _problem(response)
    if problem.get("code") == ProblemCode.CODEC_NOT_OFFERED or problem.get("reason") == SourceReason.CODEC_UNSUPPORTED:
        return SourceError(SourceReason.CODEC_UNSUPPORTED, f"{IT} does not send H264 that can be played")
    reason = next((str(one) for one in SourceReason if one == problem.get("reason")), "")
    if reason and response.status not in (401, 403, 404):
        # Another agent of ours: its camera is what fails.
        return SourceError(SourceReason.NO_FRAMES, f"{IT} has no picture itself ({reason})")
    if response.status == 409:
        return SourceError(SourceReason.NO_FRAMES, f"{IT} says that the stream is not live now")
    if response.status == 406:
        return SourceError(SourceReason.PROTOCOL_ERROR, f"{IT} wants to make the offer itself, which is not done here")
    return http.refusal(response, "the WHEP stream")


def _problem(response: http.Response) -> dict[str, Any]:
    if "json" not in response.headers.get("content-type", ""):
        return {}
    try:
        body = json.loads(response.body)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


class _Tap:
    """Stands where aiortc's receiver keeps its jitter buffer."""

    def __init__(self, take: Callable[[RtpPacket], bool]) -> None:
        self._take = take

    def add(self, packet: AiortcPacket) -> tuple[bool, None]:
        """Whether to send a PLI, and never a frame to decode."""
        taken = RtpPacket(
            payload_type=packet.payload_type,
            marker=bool(packet.marker),
            sequence=packet.sequence_number,
            timestamp=packet.timestamp,
            ssrc=packet.ssrc,
            payload=packet.payload,
        )
        return self._take(taken), None


def _take_over(receiver: RTCRtpReceiver, take: Callable[[RtpPacket], bool]) -> None:
    if not hasattr(receiver, _JITTER_BUFFER):
        raise RuntimeError("this version of aiortc keeps its jitter buffer elsewhere")
    setattr(receiver, _JITTER_BUFFER, _Tap(take))
