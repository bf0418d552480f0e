"""AAC as cameras send it by RTP, and what its configuration says (RFC 3640, ISO 14496-3). Pure and bounded.

`parse_config` reads the few bytes that a decoder is made from. `AccessUnits` takes the payloads of mode AAC-hbr, which
all cameras use: headers of some bits each, then whole access units, or a part of a single one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sightline_agent.media.bits import Bits

SAMPLES = 1024
"""Of one access unit; AAC-LD and 960-sample units are not what cameras have."""
_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_CHANNELS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 8}
_ESCAPE_TYPE = 31
_ESCAPE_RATE = 15
_MAX_CONFIG_BYTES = 64
_MAX_UNIT_BYTES = 8192
"""6144 bits per channel at most (ISO 14496-3 section 4.5.3.2), for up to eight channels."""
_MAX_UNITS = 64


@dataclass(frozen=True, slots=True)
class Config:
    """What an AudioSpecificConfig says."""

    rate: int
    """Samples per second of the access units; with spectral band replication decoders give twice as many."""
    channels: int
    """0: told in band."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How many bits the headers of access units have (RFC 3640 section 4.1)."""

    size_bits: int = 13
    index_bits: int = 3
    delta_bits: int = 3

    @property
    def usable(self) -> bool:
        """The sizes that `AccessUnits` reads."""
        return 0 < self.size_bits <= 16 and 0 <= self.index_bits <= 8 and 0 <= self.delta_bits <= 8


def parse_config(data: bytes) -> Config | None:
    """What the configuration says; None where it makes no sense."""
    if not 2 <= len(data) <= _MAX_CONFIG_BYTES:
        return None
    bits = Bits(data, escaped=False)
    try:
        if bits.read(5) == _ESCAPE_TYPE:
            bits.read(6)
        index = bits.read(4)
        if index != _ESCAPE_RATE and index >= len(_RATES):
            return None
        rate = bits.read(24) if index == _ESCAPE_RATE else _RATES[index]
        channels = bits.read(4)
    except EOFError:
        return None
    if not _RATES[-1] <= rate <= _RATES[0] or (channels and channels not in _CHANNELS):
        return None
    return Config(rate, _CHANNELS.get(channels, 0))


def layout_of(parameters: Mapping[str, str]) -> Layout | None:
    """The headers' layout that the SDP tells; None for what is not read here."""
    try:
        numbers = [int(parameters.get(name, "0")[:3]) for name in ("sizelength", "indexlength", "indexdeltalength")]
    except ValueError:
        return None
    layout = Layout(*numbers)
    extra = ("ctsdeltalength", "dtsdeltalength", "auxiliarydatasizelength", "randomaccessindication")
    plain = all(parameters.get(name, "0") == "0" for name in extra)
    return layout if layout.usable and plain else None


class AccessUnits:
    """Payloads in, access units out, each with its distance in samples from the payload's timestamp."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._part = b""
        self._whole = 0
        """Bytes of the access unit under way; 0: there is none."""
        self._timestamp = 0
        self.dropped = 0
        """Payloads and parts that made no sense, or whose other parts were lost."""

    def push(self, payload: bytes, timestamp: int, gap: bool = False) -> list[tuple[bytes, int]]:
        """The next payload; `gap`: something before it is missing."""
        if self._whole and (gap or timestamp != self._timestamp):
            self._forget()
        headers = self._headers(payload)
        if headers is None:
            self.dropped += 1
            return []
        sizes, data = headers
        if len(sizes) == 1 and len(data) < sizes[0]:
            return self._fragment(data, sizes[0], timestamp)
        if sum(sizes) > len(data):
            self.dropped += 1
            return []
        found, at = [], 0
        for number, size in enumerate(sizes):
            if size:
                found.append((data[at : at + size], number * SAMPLES))
            at += size
        return found

    def _fragment(self, data: bytes, size: int, timestamp: int) -> list[tuple[bytes, int]]:
        """Each fragment tells the size of the whole."""
        if size > _MAX_UNIT_BYTES or (self._whole and self._whole != size):
            self._forget()
            return []
        self._whole, self._timestamp = size, timestamp
        self._part += data
        if len(self._part) < size:
            return []
        whole, fits = self._part, len(self._part) == size
        self._part, self._whole = b"", 0
        self.dropped += not fits
        return [(whole, 0)] if fits else []

    def _forget(self) -> None:
        self._part, self._whole = b"", 0
        self.dropped += 1

    def _headers(self, payload: bytes) -> tuple[list[int], bytes] | None:
        """Sizes of the access units, and the bytes behind the headers; interleaved units are not read."""
        if len(payload) < 2:
            return None
        length = int.from_bytes(payload[:2], "big")
        end = 2 + (length + 7) // 8
        if not length or end > len(payload):
            return None
        layout, bits, sizes = self._layout, Bits(payload[2:end], escaped=False), list[int]()
        while length > 0 and len(sizes) < _MAX_UNITS:
            index_bits = layout.delta_bits if sizes else layout.index_bits
            length -= layout.size_bits + index_bits
            if length < 0:
                return None
            sizes.append(bits.read(layout.size_bits))
            if bits.read(index_bits):
                return None
        return sizes, payload[end:]
