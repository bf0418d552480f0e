"""Standalone: the agent's configuration out of a command line, where nobody else makes one."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from pydantic import ValidationError

from sightline_agent.errors import SettingsError
from sightline_agent.settings import Settings
from sightline_agent.sources.credentials import Credentials, split_url
from sightline_model.agent import AgentConfig, AgentLifecycle, CameraIdentity
from sightline_model.camera import FileSource, HlsSource, RtmpSource, RtspSource, Source, V4l2Source, WhepSource
from sightline_model.camera import TestPatternSource as TestPatternSpec

_TEST = "test"
_IDENTITY = CameraIdentity(namespace="standalone", name="camera", uid="0")


def standalone_config(settings: Settings) -> tuple[AgentConfig, Credentials | None]:
    """The configuration and the credentials that were in the source's URL."""
    source, credentials = parse_source(settings.source.get_secret_value())
    lifecycle = AgentLifecycle(idle_timeout=settings.idle_timeout)
    config = AgentConfig(camera=_IDENTITY, source=source, lifecycle=lifecycle, max_viewers=settings.max_viewers)
    return config, credentials


def parse_source(text: str) -> tuple[Source, Credentials | None]:
    """What `--source` names: `test`, `testpattern://?width=640&fps=15`, a URL, a path.

    A WHEP endpoint is written with the scheme whep or wheps in place of http or https, its token as user name; an
    http(s) URL is a playlist if its path ends like one, else a clip.
    """
    try:
        if text == _TEST or text.startswith("testpattern:"):
            query = parse_qs(urlsplit(text).query) if text != _TEST else {}
            options = {name: values[-1] for name, values in query.items()}
            return Source(test_pattern=TestPatternSpec.model_validate(options)), None
        if text.startswith(("rtsp://", "rtsps://")):
            url, credentials = split_url(text)
            return Source(rtsp=RtspSource(url=url)), credentials
        if text.startswith(("rtmp://", "rtmps://")):
            url, credentials = split_url(text)
            return Source(rtmp=RtmpSource(url=url)), credentials
        if text.startswith(("whep://", "wheps://")):
            url, credentials = split_url("http" + text.removeprefix("whep"))
            token = Credentials("", "", credentials.username) if credentials is not None else None
            return Source(whep=WhepSource(url=url)), token
        if text.startswith(("http://", "https://")):
            if urlsplit(text).path.endswith((".m3u8", ".m3u")):
                return Source(hls=HlsSource(url=text)), None
            return Source(file=FileSource(url=text)), None
        if not text or ("://" in text and not text.startswith("file://")):
            raise SettingsError("--source: not a known kind of address; use rtsp, rtmp, whep, http, a file or test")
        if text.startswith("/dev/"):
            return Source(v4l2=V4l2Source(device=text)), None
        path = Path(text.removeprefix("file://")).absolute()
        return Source(file=FileSource(path=str(path))), None
    except (ValidationError, ValueError):
        # The text may hold a password: it is not repeated.
        raise SettingsError(
            "--source is not valid; write rtsp://[user:password@]host[:port]/path, an absolute path, or test"
        ) from None
