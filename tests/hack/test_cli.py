"""What may go wrong on somebody's machine is said in one sentence, and by the exit code."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hack.cluster import cli, node, toolchain
from hack.cluster.console import exit_code
from hack.cluster.errors import ClusterError


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ClusterError("the bridge is there"), 1, "error: the bridge is there"),
        (OSError(28, "No space left on device", "/somewhere/kube"), 1, "No space left on device: '/somewhere/kube'"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_failures_are_words(capsys: pytest.CaptureFixture[str], error: BaseException, code: int, words: str) -> None:
    assert exit_code(raising(error)) == code
    assert words in capsys.readouterr().err


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_code(raising(ZeroDivisionError()))


def test_a_control_plane_needs_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["up", "--control-plane-only"]) == 1
    assert "--directory DIR" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "https", "0", "65536", "-1", "6443/tcp"])
def test_a_port_of_the_environment_is_a_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    monkeypatch.setenv("SIGHTLINE_API_PORT", text)
    with pytest.raises(ClusterError, match=f"SIGHTLINE_API_PORT={text} is no port such as 6443"):
        node._state(tmp_path, None)


@pytest.mark.parametrize(
    ("on_path", "built", "told"), [("", "kubectl", True), ("kubectl", "kubectl", False), ("", "", False)]
)
def test_a_shell_is_told_of_tools_that_the_machine_lacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, on_path: str, built: str, told: bool
) -> None:
    for folder, name in ((tmp_path / "path", on_path), (tmp_path / "bin", built)):
        folder.mkdir()
        if name:
            (folder / name).write_text("")
            (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("SIGHTLINE_BUILD", str(tmp_path))
    lines = toolchain.exports(tmp_path / "config").splitlines()
    assert lines == [f"export KUBECONFIG={tmp_path}/config", *[f"export PATH=$PATH:{tmp_path}/bin"] * told]


@pytest.mark.parametrize(
    ("said", "is_used"),
    [("v3.14.0+g69dcc92", True), ("v4.3.1", True), ("v3.8.2+g6e3701e", False), ("Client: v2.17.0", False), ("", False)],
)
def test_a_helm_of_the_machine_is_used_if_it_is_recent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, is_used: bool
) -> None:
    installed = tmp_path / "helm"
    installed.write_text(f"#!/bin/sh\necho '{said}'\n")
    installed.chmod(installed.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(toolchain, "_installed", lambda name, _package: tmp_path / "built" / name)
    assert toolchain.helm() == (installed if is_used else tmp_path / "built" / "helm")
