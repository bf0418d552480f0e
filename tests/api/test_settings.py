"""Settings: what is refused, where they come from, and that they keep their secrets."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sightline_api.settings import CONFIG_FILE_VARIABLE, Settings

ISSUER = {"issuer": "https://issuer.test/realm/", "audiences": ["web"]}
USER = {"token": "hunter2", "user": "dev"}


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"static_users": [USER]}, "dev_mode"),
        ({"oidc": [{**ISSUER, "algorithms": ["RS256", "HS256"]}]}, "HS256"),
        ({"oidc": [{**ISSUER, "algorithms": ["none"]}]}, "none"),
        ({"oidc": [{**ISSUER, "audiences": []}]}, "audiences"),
        ({"oidc": [{**ISSUER, "audience": "web"}]}, "audience"),
        ({"oidc": [ISSUER, ISSUER]}, "once"),
        ({"trusted_proxies": ["everybody"]}, "trusted_proxies"),
        ({"frame_ancestors": ["'none'; script-src *"]}, "frame_ancestors"),
        ({"unknown": 1}, "unknown"),
        ({"quota": {"burst": 0}}, "quota.burst"),
    ],
)
def test_mistakes_are_refused_with_their_place(given: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**given)
    assert where in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_secrets_are_not_shown() -> None:
    settings = Settings(dev_mode=True, static_users=[USER])
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()


def test_the_issuers_name_is_its_address_without_a_slash_unless_told() -> None:
    assert Settings(oidc=[ISSUER]).oidc[0].name == "https://issuer.test/realm"
    named = {**ISSUER, "issuer_name": "https://issuer.test/realm/"}
    assert Settings(oidc=[named]).oidc[0].name == "https://issuer.test/realm/"


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "api.json"
    file.write_text(json.dumps({"port": 1, "host": "127.0.0.1", "quota": {"burst": 7}, "oidc": [ISSUER]}))
    monkeypatch.setenv(CONFIG_FILE_VARIABLE, str(file))
    monkeypatch.setenv("SIGHTLINE_API_PORT", "2")
    monkeypatch.setenv("SIGHTLINE_API_KUBERNETES__AUDIENCES", '["a", "b"]')
    settings = Settings()
    assert (settings.port, settings.host, settings.quota.burst) == (2, "127.0.0.1", 7)
    assert settings.kubernetes.audiences == ["a", "b"]
    assert settings.oidc[0].audiences == ["web"]


def test_unknown_fields_of_the_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "api.json"
    file.write_text(json.dumps({"quota": {"bursts": 7}}))
    monkeypatch.setenv(CONFIG_FILE_VARIABLE, str(file))
    with pytest.raises(ValidationError, match=r"quota\.bursts"):
        Settings()
