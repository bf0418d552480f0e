"""Standalone: the agent's configuration out of a command line, where nobody else makes one."""

from pydantic import ValidationError

from sightline_agent.errors import SettingsError
from sightline_agent.settings import Settings
from sightline_agent.sources.address import AddressError, parse_address
from sightline_agent.sources.credentials import Credentials
from sightline_model.agent import MAIN_PROFILE, AgentConfig, AgentLifecycle, CameraIdentity
from sightline_model.camera import Profile, Source

_PROFILE = "--profile is NAME=SOURCE with a short name in lower case that is not main"
_IDENTITY = CameraIdentity(namespace="standalone", name="camera", uid="0")


def standalone_config(settings: Settings) -> tuple[AgentConfig, dict[str, Credentials | None]]:
    """The configuration, and the credentials that were in the sources' URLs by the names of the qualities."""
    source, found = parse_source(settings.source.get_secret_value())
    credentials = {MAIN_PROFILE: found}
    profiles = []
    for text in settings.profiles:
        name, equals, address = text.get_secret_value().partition("=")
        if not equals:
            raise SettingsError(_PROFILE)
        further, credentials[name] = parse_source(address, "--profile")
        profiles.append(_profile(name, further))
    if len(credentials) != 1 + len(profiles):
        raise SettingsError("--profile: each quality needs a name of its own")
    lifecycle = AgentLifecycle(idle_timeout=settings.idle_timeout)
    config = AgentConfig(
        camera=_IDENTITY,
        source=source,
        profiles=profiles,
        lifecycle=lifecycle,
        max_viewers=settings.max_viewers,
        audio=settings.audio,
        transcode=settings.transcode,
    )
    return config, credentials


def _profile(name: str, source: Source) -> Profile:
    try:
        return Profile(name=name, source=source)
    except ValidationError:
        raise SettingsError(_PROFILE) from None


def parse_source(text: str, option: str = "--source") -> tuple[Source, Credentials | None]:
    """What an option names (`sources.address`); SettingsError says what would do."""
    try:
        return parse_address(text)
    except AddressError as error:
        raise SettingsError(f"{option}: {error}") from None
