"""Answers to a camera's challenge: Basic (RFC 7617) and Digest with MD5 or SHA-256 (RFC 7616, RFC 2617). Pure.

The strongest offered scheme is used: Digest SHA-256, Digest MD5, Basic. Neither challenge nor answer is ever
logged.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sightline_agent.sources.credentials import Credentials

# Looks behind, so that a long word without a value is tried once and not again from each of its letters.
_PARAMETER = re.compile(r'(?<![A-Za-z0-9_-])([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SEVERAL = re.compile(r",\s*(?=(?:Basic|Digest)\s)", re.IGNORECASE)
"""Some cameras write all their challenges into one field."""
_SCHEME = re.compile(r"^\s*([A-Za-z0-9_-]+)(?:\s+(.*))?$", re.DOTALL)
_HASHES: dict[str, Callable[[bytes], "hashlib._Hash"]] = {
    "SHA-256": hashlib.sha256,
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False),
}


@dataclass(frozen=True, slots=True)
class Challenge:
    """One WWW-Authenticate field."""

    scheme: str
    realm: str
    nonce: str = ""
    opaque: str = ""
    algorithm: str = "MD5"
    session: bool = False
    """The -sess variant of the algorithm."""
    qop: bool = False
    """Protection `auth` is offered."""
    stale: bool = False


@dataclass(slots=True)
class Authorizer:
    """Makes Authorization fields for one connection; counts the uses of a nonce."""

    challenge: Challenge
    credentials: Credentials = field(repr=False)
    new_nonce: Callable[[], str] = field(repr=False)
    _uses: int = 0

    def field_for(self, method: str, url: str) -> str:
        """The value of the Authorization field."""
        if self.challenge.scheme == "basic":
            pair = f"{self.credentials.username}:{self.credentials.password}"
            return "Basic " + base64.b64encode(pair.encode()).decode()
        self._uses += 1
        return self._digest(method, url)

    def _digest(self, method: str, url: str) -> str:
        challenge, name = self.challenge, self.credentials.username
        cnonce, count = self.new_nonce(), f"{self._uses:08x}"
        secret = self._hash(f"{name}:{challenge.realm}:{self.credentials.password}")
        if challenge.session:
            secret = self._hash(f"{secret}:{challenge.nonce}:{cnonce}")
        action = self._hash(f"{method}:{url}")
        middle = f"{challenge.nonce}:{count}:{cnonce}:auth" if challenge.qop else challenge.nonce
        parts = [
            f'username="{_quoted(name)}"',
            f'realm="{_quoted(challenge.realm)}"',
            f'nonce="{_quoted(challenge.nonce)}"',
            f'uri="{url}"',
            f'response="{self._hash(f"{secret}:{middle}:{action}")}"',
        ]
        if challenge.algorithm != "MD5" or challenge.session:
            parts.append(f"algorithm={challenge.algorithm}{'-sess' if challenge.session else ''}")
        if challenge.opaque:
            parts.append(f'opaque="{_quoted(challenge.opaque)}"')
        if challenge.qop:
            parts += ["qop=auth", f"nc={count}"]
        if challenge.qop or challenge.session:
            parts.append(f'cnonce="{cnonce}"')
        return "Digest " + ", ".join(parts)

    def _hash(self, text: str) -> str:
        return _HASHES[self.challenge.algorithm](text.encode()).hexdigest()


def choose(fields: Sequence[str]) -> Challenge | None:
    """The strongest challenge that we can answer; None where there is none."""
    separate = [one for field_ in fields for one in _SEVERAL.split(field_)]
    found = [challenge for challenge in map(parse, separate) if challenge is not None]
    return max(found, key=_strength, default=None)


def parse(value: str) -> Challenge | None:
    """One challenge; None for what cannot be answered."""
    match = _SCHEME.match(value)
    if match is None:
        return None
    scheme = match[1].lower()
    given = {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
        for name, quoted, plain in _PARAMETER.findall(match[2] or "")
    }
    if scheme == "basic":
        return Challenge("basic", given.get("realm", ""))
    algorithm = given.get("algorithm", "MD5").upper()
    session = algorithm.endswith("-SESS")
    algorithm = algorithm.removesuffix("-SESS")
    offered = {part.strip().lower() for part in given.get("qop", "").split(",") if part.strip()}
    unanswerable = algorithm not in _HASHES or (offered and "auth" not in offered)
    # What is quoted back must not break out of its field.
    unsafe = not all(text.isprintable() for text in given.values())
    if scheme != "digest" or unanswerable or unsafe or not given.get("nonce"):
        return None
    return Challenge(
        scheme="digest",
        realm=given.get("realm", ""),
        nonce=given["nonce"],
        opaque=given.get("opaque", ""),
        algorithm=algorithm,
        session=session,
        qop=bool(offered),
        stale=given.get("stale", "").lower() == "true",
    )


def _strength(challenge: Challenge) -> int:
    if challenge.scheme == "basic":
        return 0
    return 2 if challenge.algorithm == "SHA-256" else 1


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
