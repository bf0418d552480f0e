"""A spare: an agent that was started without a camera, so that a camera finds everything loaded and listening.

It knows who may order it about (public keys from its environment) and nothing else. Until it is adopted it has no
source, lets no viewer in, and announces the public half of a key that lives in this process alone. The operator then
PUTs the camera's config and credentials, sealed to that key; from there on it is that camera's agent for good. Both are
kept in memory only: a process that is started again begins as a spare again, with another key, and is told again.

`runtime` builds an agent around it; the control port (`control.app`) opens adoptions with it; sources read their
credentials from it.
"""

import asyncio

from pydantic import ValidationError

from sightline_agent.errors import SettingsError
from sightline_agent.sources.credentials import Credentials, ReadCredentials
from sightline_model.agent import Adoption, AgentConfig, CameraIdentity, SpareStart
from sightline_model.camera import Source, TestPatternSource
from sightline_model.sealing import SealingKey


class Spare:
    """The key, whose agent this is, and the credentials that came with the config."""

    def __init__(self, start: SpareStart) -> None:
        self._start = start
        self._key = SealingKey()
        self._credentials: dict[str, Credentials] = {}
        self.camera: CameraIdentity | None = None
        """Who has adopted it."""
        self.adopted = asyncio.Event()

    @property
    def audience(self) -> str:
        """The `aud` of control tokens, before the adoption and after."""
        return self._start.identity.audience

    @property
    def sealing_key(self) -> str:
        """What adoptions are to be sealed to."""
        return self._key.public

    def config(self) -> AgentConfig:
        """What the agent is until it is adopted: nobody is let in, and the source, any would do, is never run."""
        nothing = Source(test_pattern=TestPatternSource())
        start = self._start
        return AgentConfig(camera=start.identity, source=nothing, token_keys=start.token_keys)

    def open(self, sealed: str) -> bytes:
        """An Adoption as JSON; SealError for what was not sealed for this process."""
        return self._key.open(sealed, self.audience)

    def belongs_to_another(self, camera: CameraIdentity) -> bool:
        """Whether it is too late for this camera."""
        return self.camera is not None and self.camera != camera

    def adopt(self, adoption: Adoption) -> None:
        """Serve this camera; call it before the config is put in force."""
        self.camera = adoption.config.camera
        self._credentials = {
            name: Credentials(given.username, given.password, given.token)
            for name, given in adoption.credentials.items()
        }
        self.adopted.set()

    def credentials_of(self, name: str) -> ReadCredentials:
        """The newest that came for the quality of that name, from the Secret that the config beside them names."""
        return lambda _: self._credentials.get(name)


def parse_start(text: str) -> SpareStart:
    """What the environment says; SettingsError where it is wrong."""
    try:
        start = SpareStart.model_validate_json(text)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, one["loc"])) or "JSON" for one in error.errors(include_input=False))
        raise SettingsError(f"SIGHTLINE_AGENT_SPARE is not valid: {fields}") from None
    if not start.token_keys:
        raise SettingsError("SIGHTLINE_AGENT_SPARE names no key, so nobody could ever adopt this agent")
    return start
