"""kubectl as a person uses it, for end-to-end tests: what they read here is what people see."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class KubectlError(Exception):
    """kubectl said no; the text is what it printed."""


@dataclass(frozen=True)
class Kubectl:
    """One cluster."""

    program: Path
    kubeconfig: Path

    def __call__(self, *arguments: str, manifest: dict[str, Any] | None = None, seconds: float = 180) -> str:
        """Run a command and return what it prints; KubectlError with what it printed when it fails."""
        done = subprocess.run(
            [str(self.program), f"--kubeconfig={self.kubeconfig}", *arguments],
            input=json.dumps(manifest) if manifest is not None else None,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode != 0:
            raise KubectlError(done.stderr + done.stdout)
        return done.stdout

    def apply(self, manifest: dict[str, Any]) -> str:
        """Apply one manifest."""
        return self("apply", "-f", "-", manifest=manifest)

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        """One object."""
        found: dict[str, Any] = json.loads(self("get", kind, name, f"--namespace={namespace}", "-o", "json"))
        return found

    def list(self, kind: str, selector: str = "", namespace: str = "default") -> list[dict[str, Any]]:
        """Objects of a kind."""
        arguments = ["get", kind, f"--namespace={namespace}", "-o", "json"]
        if selector:
            arguments.append(f"--selector={selector}")
        items: list[dict[str, Any]] = json.loads(self(*arguments))["items"]
        return items

    def wait(self, kind: str, name: str, condition: str, seconds: float = 180) -> None:
        """Wait until an object has a condition."""
        self("wait", f"--for={condition}", f"{kind}/{name}", f"--timeout={seconds:.0f}s", seconds=seconds + 10)
