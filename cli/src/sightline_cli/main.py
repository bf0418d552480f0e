"""The commands and their options; what they do is in the modules they call.

Heavy imports happen inside the commands, so that `sightline --help` answers at once.
"""

import os
import secrets
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

MAX_TOKEN = 1024
"""Of what the front door takes, what is still a link to click on."""

app = typer.Typer(no_args_is_help=True)


def _tell_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def main(
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Cameras as streams: the Sightline command."""


@app.command()
def version() -> None:
    """Print the version."""
    print(metadata.version("sightline-cli"))


@app.command()
def dev(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the page and the API on 127.0.0.1; 0 draws one.")
    ] = 8000,
    token: Annotated[str, typer.Option(help="Token to sign in with; drawn at random when empty.")] = "",
    camera: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=URL of a camera to add: rtsp(s), rtmp(s), whep(s) or http(s), a file, or test; repeatable."
        ),
    ] = None,
    warm_agents: Annotated[
        int, typer.Option(min=0, max=16, help="Spare agents that wait for cameras (CameraClass.spec.warmAgents).")
    ] = 0,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    state: Annotated[Path | None, typer.Option(help="Folder for logs and agents' files; temporary when empty.")] = None,
) -> None:
    """Run operator, front door and agents on this machine, without a cluster.

    A test pattern is always one of the cameras; all are in the namespace `default`.
    """
    import sightline_cli.dev.command as development
    from sightline_cli.dev import world

    try:
        cameras = world.parse_cameras(camera or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--camera") from error
    chosen = token or os.environ.get("SIGHTLINE_DEV_TOKEN", "") or secrets.token_urlsafe(18)
    if not (chosen.isascii() and chosen.isprintable()) or " " in chosen or len(chosen) > MAX_TOKEN:
        words = f"a token has letters, digits and signs of ASCII, no spaces, {MAX_TOKEN} at most"
        raise typer.BadParameter(words, param_hint="--token")
    options = development.Options(
        port=port,
        token=chosen,
        cameras=cameras,
        warm_agents=warm_agents,
        open_page=open_page,
        state=state,
    )
    raise typer.Exit(development.run(options))
