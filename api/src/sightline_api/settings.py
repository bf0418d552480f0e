"""Everything that can be set about the front door, by environment or by a JSON file.

Environment variables start with SIGHTLINE_API_, nested fields are joined by two underscores, lists and objects are
JSON (SIGHTLINE_API_OIDC='[{"issuer": ...}]'). SIGHTLINE_API_CONFIG_FILE names a JSON file with the same fields; the
environment wins. A file that cannot be read is refused, and unknown fields in it with their path. Secrets are
SecretStr: no repr shows them.
"""

import json
import os
from ipaddress import ip_network
from pathlib import Path
from textwrap import fill
from typing import Annotated, Self

from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    JsonConfigSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from sightline_model.names import SIGNING_KEY_FILE

ENV_PREFIX = "SIGHTLINE_API_"
CONFIG_FILE_VARIABLE = f"{ENV_PREFIX}CONFIG_FILE"
ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""Asymmetric signatures only: with HS* a public key would be a secret, and `none` is no signature."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


class OidcIssuer(_Part):
    """An OpenID Connect issuer whose tokens are accepted."""

    issuer: AnyHttpUrl
    """Must equal the tokens' `iss` exactly (a trailing slash counts, as `issuer_name` says)."""
    audiences: Annotated[list[str], Field(min_length=1, max_length=8)]
    """A token must be for one of these."""
    issuer_name: str = ""
    """The `iss` to expect where it differs in spelling from `issuer`; empty: `issuer` without a trailing slash."""
    jwks_uri: AnyHttpUrl | None = None
    """Where the keys are; none: found by discovery."""
    ca_file: Path | None = None
    """Certificates to trust for this issuer, PEM; none: the system's."""
    algorithms: Annotated[list[str], Field(min_length=1)] = ["RS256", "ES256", "EdDSA"]
    """Signature algorithms to accept."""
    user_claim: str = "sub"
    """Claim with the user's name."""
    user_prefix: str = ""
    """Put before it, to tell issuers apart."""
    groups_claim: str = "groups"
    """Claim with the list of groups; a missing claim means none."""
    groups_prefix: str = ""
    """Put before each group."""
    leeway_seconds: Annotated[float, Field(ge=0, le=300)] = 30.0
    """How far the issuer's clock may be off."""

    @field_validator("algorithms")
    @classmethod
    def _asymmetric(cls, value: list[str]) -> list[str]:
        refused = [name for name in value if name not in ALGORITHMS]
        if refused:
            raise ValueError(f"{', '.join(refused)} is not accepted; choose from {', '.join(sorted(ALGORITHMS))}")
        return value

    @property
    def name(self) -> str:
        """The `iss` that tokens of this issuer carry."""
        return self.issuer_name or str(self.issuer).rstrip("/")


class KubernetesAuth(_Part):
    """Tokens of the cluster's own service accounts and users, by TokenReview."""

    enabled: bool = True
    """Whether they are accepted."""
    audiences: Annotated[list[str], Field(min_length=1, max_length=8)] = ["sightline"]
    """Audiences to accept (`kubectl create token NAME --audience sightline`)."""


class StaticUser(_Part):
    """A user by a fixed token; for development only."""

    token: Annotated[SecretStr, Field(min_length=1)]
    """The token."""
    user: Annotated[str, Field(min_length=1, max_length=256)]
    """The user's name."""
    groups: list[str] = []
    """The user's groups; `system:masters` may do everything, as in Kubernetes."""


class IceServer(_Part):
    """A STUN or TURN server that viewers are told."""

    urls: Annotated[list[str], Field(min_length=1, max_length=8)]
    """stun:host:port or turn:host:port?transport=udp."""
    username: str = ""
    """User name at the TURN server."""
    credential: SecretStr = SecretStr("")
    """Password at the TURN server; it is told to viewers."""


class Quota(_Part):
    """How often one user may open sessions."""

    rate_per_second: Annotated[float, Field(gt=0)] = 5.0
    """Opened sessions per second and user in the long run."""
    burst: Annotated[int, Field(ge=1)] = 30
    """How many at once."""
    concurrent: Annotated[int, Field(ge=1)] = 16
    """Requests of one user that wait for an agent at the same time."""


class Settings(BaseSettings):
    """The front door's settings."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    host: str = "0.0.0.0"  # noqa: S104 - a pod listens on all of its addresses
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port to listen on."""
    public_url: AnyHttpUrl | None = None
    """Where clients reach the front door; none: as the request says."""
    namespaces: Annotated[list[str], Field(max_length=256)] = []
    """Namespaces to serve; none: all of them."""
    web_root: Path | None = None
    """Folder of the built web page; none: no page is served."""
    signing_key_file: Path = Path(SIGNING_KEY_FILE)
    """Ed25519 private key, PEM, shared with the operator."""
    previous_signing_key_file: Path | None = None
    """The key before it, while it is rotated: session addresses and tokens that it signed stay good."""
    oidc: Annotated[list[OidcIssuer], Field(max_length=16)] = []
    """OpenID Connect issuers."""
    kubernetes: KubernetesAuth = KubernetesAuth()
    """Kubernetes tokens."""
    dev_mode: bool = False
    """Allows static users. Never in production."""
    static_users: Annotated[list[StaticUser], Field(max_length=64)] = []
    """Users by fixed tokens; dev mode only."""
    trusted_proxies: Annotated[list[str], Field(max_length=64)] = []
    """Networks whose X-Forwarded-Proto and X-Forwarded-Host are believed."""
    cors_origins: Annotated[list[str], Field(max_length=64)] = ["*"]
    """Origins whose pages may call the API; no cookies are used, so all may by default."""
    frame_ancestors: Annotated[list[str], Field(max_length=16)] = ["'none'"]
    """Who may embed the page in a frame (Content-Security-Policy)."""
    ice_servers: Annotated[list[IceServer], Field(max_length=16)] = []
    """STUN and TURN servers that viewers are told."""
    turn_directory: Path | None = None
    """Folder with a folder for each TURN server's Secret, by the name that CameraClasses use; none: there are none."""
    quota: Quota = Quota()
    """How often one user may open sessions."""
    agent_connect_timeout: Annotated[float, Field(gt=0)] = 2.0
    """Seconds to wait for an agent to take the connection."""
    agent_timeout_margin: Annotated[float, Field(gt=0)] = 5.0
    """Seconds to wait for an agent's answer beyond the camera's startTimeout."""
    keep_alive: Annotated[int, Field(ge=0, le=86_400)] = 620
    """Seconds that a connection may rest between requests. Longer than the proxy in front lets it rest, or requests are
    lost: nginx and AWS have 60 s, Traefik 90 s, Caddy 120 s, Google Cloud 600 s, Envoy an hour."""
    shutdown_delay: Annotated[float, Field(ge=0, le=600)] = 5.0
    """Seconds that the process goes on when it is told to stop, so that proxies learn of it before it refuses them."""
    shutdown_grace: Annotated[int, Field(ge=0)] = 10
    """Seconds that open requests then get."""
    log_format: Annotated[str, Field(pattern="^(json|console)$")] = "json"
    """How log lines look."""

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for network in value:
            ip_network(network)
        return value

    @field_validator("frame_ancestors", "cors_origins")
    @classmethod
    def _header_safe(cls, value: list[str]) -> list[str]:
        if any(not item or any(c in item for c in ";,\r\n ") for item in value):
            raise ValueError("an origin has no spaces, commas and semicolons")
        return value

    @model_validator(mode="after")
    def _static_users_are_for_development(self) -> Self:
        if self.static_users and not self.dev_mode:
            raise ValueError("static_users need dev_mode: fixed tokens are for development only")
        names = [issuer.name for issuer in self.oidc]
        if len(set(names)) != len(names):
            raise ValueError("each OIDC issuer may be configured once")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the JSON file; no .env file is read."""
        sources = (init_settings, env_settings)
        if path := os.environ.get(CONFIG_FILE_VARIABLE):
            _check_file(Path(path))
            return (*sources, JsonConfigSettingsSource(settings_cls, json_file=path))
        return sources


def variables() -> str:
    """Every variable and what it says, for `--help`."""
    described = {CONFIG_FILE_VARIABLE: "JSON file with the fields below in lower case; variables win."}
    described |= {
        f"{ENV_PREFIX}{name.upper()}": field.description or "" for name, field in Settings.model_fields.items()
    }
    indent = " " * 6
    return "\n".join(
        f"  {name}\n{fill(' '.join(words.split()), 100, initial_indent=indent, subsequent_indent=indent)}"
        for name, words in described.items()
    )


def _check_file(path: Path) -> None:
    """SettingsError for a file that is not there or holds no object: the library would pass over the first."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {type(error).__name__}") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{path} holds no JSON object")
