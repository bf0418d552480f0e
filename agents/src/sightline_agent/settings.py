"""How this process was started: folders, ports, addresses. Frozen; made once in `__main__` and handed on.

Defaults, then the environment (`SIGHTLINE_AGENT_...`, and POD_IP as the downward API sets it), then the
command line. What the camera is and how its viewers are let in is not here: that is `AgentConfig`, which may
change while we run.
"""

import argparse
import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sightline_agent.errors import SettingsError
from sightline_model.agent import (
    CONFIG_DIRECTORY,
    CONFIG_FILE,
    CONTROL_PORT,
    CREDENTIALS_DIRECTORY,
    MEDIA_PORT,
    AgentConfig,
)
from sightline_model.camera import AudioMode, TranscodeMode

Port = Annotated[int, Field(ge=0, le=65535)]
"""0: any free one."""


class Settings(BaseSettings):
    """One agent process."""

    model_config = SettingsConfigDict(
        env_prefix="SIGHTLINE_AGENT_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    config: Path = Path(CONFIG_DIRECTORY)
    """Folder with agent.json."""
    credentials: Path = Path(CREDENTIALS_DIRECTORY)
    """Folder whose sub-folder `main` has the camera's user name and password."""
    pod_ip: Annotated[str, Field(validation_alias=AliasChoices("POD_IP", "pod_ip"))] = ""
    """Address to bind and to name to viewers; empty: all addresses."""
    pod_ips: Annotated[str, Field(validation_alias=AliasChoices("POD_IPS", "pod_ips"))] = ""
    """In a dual-stack cluster: the addresses of both families, with a comma between."""
    control_port: Port = CONTROL_PORT
    """HTTP."""
    media_port: Port = MEDIA_PORT
    """UDP."""
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"
    """How much is logged."""
    cpu_budget: Annotated[float, Field(ge=0)] = 0.0
    """Cores that viewers are admitted for; 0: what the control group and the machine give."""
    cpu_headroom: Annotated[float, Field(ge=0, le=0.9)] = 0.1
    """Fraction of the budget that is never given to viewers."""
    spare: str = ""
    """A SpareStart as JSON: wait for a camera instead of reading `config`."""
    standalone: bool = False
    """Run without an operator: one source, named on the command line."""
    source: SecretStr = SecretStr("")
    """Standalone: where the pictures come from; may hold a password."""
    profiles: tuple[SecretStr, ...] = ()
    """Standalone: further qualities as NAME=SOURCE, the best first."""
    host: str = "127.0.0.1"
    """Standalone: address to bind."""
    allowed_origins: tuple[str, ...] = ()
    """Standalone: web pages that may call the agent from a browser."""
    idle_timeout: Annotated[float, Field(ge=0, le=86400)] = 30.0
    """Standalone: how long the source runs on after the last viewer left."""
    max_viewers: Annotated[int, Field(ge=1, le=100000)] = 500
    """Standalone: how many may watch at the same time."""
    audio: AudioMode = AudioMode.AUTO
    """Standalone: whether sound is carried."""
    transcode: TranscodeMode = TranscodeMode.AUTO
    """Standalone: whether pictures that a player could not show are encoded again."""

    @field_validator("pod_ip", "host")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value:
            ipaddress.ip_address(value)
        return value

    @field_validator("pod_ips")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        for address in filter(None, value.split(",")):
            ipaddress.ip_address(address)
        return value

    @property
    def bind(self) -> tuple[str, ...]:
        """The addresses for both ports: one, or one of each family; `0.0.0.0` stands for all of both."""
        if self.standalone:
            return (self.host,)
        own = [address for address in (self.pod_ip, *self.pod_ips.split(",")) if address]
        first_of_family = {":" in address: address for address in reversed(own)}
        return tuple(sorted(first_of_family.values(), key=own.index)) or ("0.0.0.0",)  # noqa: S104


def parse(arguments: Sequence[str]) -> Settings:
    """Settings from the environment and the command line; SettingsError says what is wrong."""
    given = {name: value for name, value in vars(_parser().parse_args(arguments)).items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise SettingsError(_sentence(error, {name: _option(name) for name in given})) from None
    if settings.standalone and not settings.source.get_secret_value():
        raise SettingsError("--standalone needs --source: an rtsp URL, a file, or test")
    return settings


def load_config(directory: Path) -> AgentConfig:
    """The mounted configuration; SettingsError says what is wrong with it."""
    path = directory / CONFIG_FILE
    try:
        return AgentConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise SettingsError(f"{path} is not valid: {_sentence(error)}") from None


def _sentence(error: ValidationError, names: Mapping[str, str] | None = None) -> str:
    """What is wrong with which field, by another name where it has one."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    fields = [".".join(map(str, one["loc"])) for one in found]
    texts = [one["msg"].removeprefix("Value error, ") for one in found]
    return "; ".join(f"{(names or {}).get(field, field)}: {text}" for field, text in zip(fields, texts, strict=True))


def _option(name: str) -> str:
    return {"control_port": "--port", "media_port": "--udp-port"}.get(name, "--" + name.replace("_", "-"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sightline-agent", description="One camera, many viewers.")
    parser.add_argument("--config", type=Path, help=f"folder with {CONFIG_FILE}")
    parser.add_argument("--credentials", type=Path, help="folder with the camera's credentials")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    alone = parser.add_argument_group("standalone", "without Kubernetes: on a robot, an edge box, a desk")
    alone.add_argument("--standalone", action="store_true", default=None)
    alone.add_argument(
        "--source",
        help="rtsp://[user:password@]host/path[#transport=UDP], rtsps://host/path[#fingerprint=SHA-256], rtmp, whep or "
        "hls, a file, a device such as /dev/video0, or test",
    )
    alone.add_argument(
        "--profile",
        dest="profiles",
        action="append",
        help="a further quality, NAME=SOURCE, such as sd=rtsp://host/stream2; may be given several times",
    )
    alone.add_argument("--port", dest="control_port", type=int, help="HTTP port")
    alone.add_argument("--udp-port", dest="media_port", type=int, help="UDP port of the media")
    alone.add_argument("--host", help="address to bind; viewers without a token are let in from loopback only")
    alone.add_argument(
        "--allowed-origin",
        dest="allowed_origins",
        action="append",
        help="web page that may call the agent, such as https://example.org; may be given several times",
    )
    alone.add_argument("--idle-timeout", type=float, help="seconds that the source runs on without viewers")
    alone.add_argument("--max-viewers", type=int, help="how many may watch at the same time")
    alone.add_argument("--audio", choices=tuple(AudioMode), help="whether sound is carried")
    alone.add_argument(
        "--transcode", choices=tuple(TranscodeMode), help="whether pictures that a player cannot show are encoded again"
    )
    return parser
