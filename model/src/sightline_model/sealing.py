"""Sealing what one process alone may read: the config and credentials that the operator hands to a spare agent.

HPKE (RFC 9180) in its base mode, with X25519, HKDF-SHA256 and AES-128-GCM: the sender needs nothing but the receiver's
public key. The receiver draws its pair at its start, keeps the private half in memory and announces the public one, so
what was sealed is of no use to another process, nor to this one after a restart. `purpose` is bound into the seal: what
was sealed for one pod does not open as meant for another.
"""

from base64 import b64decode, b64encode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
_PREFIX = b"sightline adoption v1 "


class SealError(Exception):
    """What came cannot be opened, or the key is none; the message holds nothing of it."""


class SealingKey:
    """The receiver's pair, of this process only. Never shows its private half."""

    def __init__(self) -> None:
        self._key = X25519PrivateKey.generate()

    def __repr__(self) -> str:
        return "SealingKey(...)"

    @property
    def public(self) -> str:
        """The public half as text."""
        return b64encode(self._key.public_key().public_bytes_raw()).decode()

    def open(self, sealed: str, purpose: str) -> bytes:
        """What was sealed to this key for that purpose; SealError for everything else."""
        try:
            return _SUITE.decrypt(b64decode(sealed, validate=True), self._key, info=_PREFIX + purpose.encode())
        except (InvalidTag, ValueError):
            raise SealError("this was not sealed for this process") from None


def seal(plain: bytes, public: str, purpose: str) -> str:
    """Sealed to the owner of that public key; SealError where it is no key."""
    try:
        key = X25519PublicKey.from_public_bytes(b64decode(public, validate=True))
        sealed = _SUITE.encrypt(plain, key, info=_PREFIX + purpose.encode())
    except ValueError:
        raise SealError("this is no key to seal to") from None
    return b64encode(sealed).decode()
