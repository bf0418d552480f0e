"""Changes of cameras and what each gives away: one table for the front door and for the chart's admission policy."""

from typing import Any, NamedTuple

Spec = dict[str, Any]

VIEW, PUBLISH, UPDATE, DELETE = "view", "publish", "update", "delete"


class Case(NamedTuple):
    """A camera's spec before (None: there was none) and after, and what its author must have."""

    name: str
    before: Spec | None
    after: Spec
    secrets: set[str]
    actions: set[str]


def _rtsp(secret: str | None = None, host: str = "a", **more: Any) -> Spec:
    reference = {"credentialsRef": {"name": secret}} if secret else {}
    return {"rtsp": {"url": f"rtsp://{host}.lan/s", **reference, **more}}


def _spec(source: Spec, **more: Any) -> Spec:
    return {"source": source, **more}


def _grant(*roles: str, subject: str = "user:ann") -> Spec:
    return {"subjects": [subject], "roles": [*roles]}


def _profile(name: str, source: Spec) -> Spec:
    return {"name": name, "source": source}


def _output(name: str, kind: str, secret: str) -> Spec:
    url = {"rtmp": "rtmp://out.lan/app", "whip": "https://out.lan/whip", "srt": "srt://out.lan:9000"}[kind]
    return {"name": name, kind: {"url": url, "credentialsRef": {"name": secret}}}


_WHEP = {"whep": {"url": "https://w.lan/whep", "tokenRef": {"name": "w"}}}
_RTMP = {"rtmp": {"url": "rtmp://r.lan/app", "credentialsRef": {"name": "r"}}}
_ROBOT = {"external": {"webrtcUrl": "https://robot.lan/offer", "fallback": _rtsp("x")}}
_GUARDS = _grant("View", subject="group:guards")
_EVERYTHING = {VIEW, PUBLISH, UPDATE, DELETE}

CASES = [
    Case("made without a secret", None, _spec(_rtsp()), set(), set()),
    Case("made with a secret", None, _spec(_rtsp("a")), {"a"}, set()),
    Case("made with a token", None, _spec(_WHEP), {"w"}, set()),
    Case("made with a stream key", None, _spec(_RTMP), {"r"}, set()),
    Case("made with a robot's fallback", None, _spec(_ROBOT), {"x"}, set()),
    Case("a secret is named", _spec(_rtsp()), _spec(_rtsp("a")), {"a"}, set()),
    Case("a secret is exchanged", _spec(_rtsp("a")), _spec(_rtsp("b")), {"b"}, set()),
    Case("a secret goes elsewhere", _spec(_rtsp("a")), _spec(_rtsp("a", host="b")), {"a"}, set()),
    Case("a secret goes in the clear", _spec(_rtsp("a", transport="TCP")), _spec(_rtsp("a")), {"a"}, set()),
    Case("a secret is not named any more", _spec(_rtsp("a")), _spec(_rtsp()), set(), set()),
    Case("another address without a secret", _spec(_rtsp()), _spec(_rtsp(host="b")), set(), set()),
    Case("a default is spelt out", _spec(_rtsp("a")), _spec(_rtsp("a", transport="Auto")), set(), set()),
    Case("a title", _spec(_rtsp("a")), _spec(_rtsp("a"), presentation={"title": "Dock"}), set(), set()),
    Case(
        "the same source as a profile",
        _spec(_rtsp("a")),
        _spec(_rtsp("a"), profiles=[_profile("sd", _rtsp("a"))]),
        set(),
        set(),
    ),
    Case(
        "a profile with secrets of its own",
        _spec(_rtsp("a")),
        _spec(_rtsp("a"), profiles=[_profile("sd", _rtsp("b")), _profile("low", _WHEP)]),
        {"b", "w"},
        set(),
    ),
    Case(
        "outputs",
        _spec(_rtsp("a")),
        _spec(_rtsp("a"), outputs=[_output("x", "rtmp", "o"), _output("y", "whip", "p"), _output("z", "srt", "q")]),
        {"o", "p", "q"},
        set(),
    ),
    Case("a viewer", _spec(_rtsp("a")), _spec(_rtsp("a"), access={"grants": [_GUARDS]}), set(), {VIEW}),
    Case("a viewer from the beginning", None, _spec(_rtsp(), access={"grants": [_GUARDS]}), set(), {VIEW}),
    Case("a publisher", _spec(_rtsp()), _spec(_rtsp(), access={"grants": [_grant("Publish")]}), set(), {PUBLISH}),
    Case(
        "a manager",
        _spec(_rtsp("a")),
        _spec(_rtsp("a"), access={"grants": [_grant("Manage")]}),
        {"a"},
        {UPDATE, DELETE},
    ),
    Case("an owner", _spec(_rtsp("a")), _spec(_rtsp("a"), access={"owner": "ann"}), {"a"}, _EVERYTHING),
    Case(
        "another owner",
        _spec(_rtsp(), access={"owner": "bob"}),
        _spec(_rtsp(), access={"owner": "ann"}),
        set(),
        _EVERYTHING,
    ),
    Case(
        "fewer rights",
        _spec(_rtsp("a"), access={"owner": "bob", "grants": [_GUARDS, _grant("View", "Manage")]}),
        _spec(_rtsp("a"), access={"grants": [_GUARDS], "maxViewers": 3}),
        set(),
        set(),
    ),
    Case(
        "a longer booking is another grant",
        _spec(_rtsp(), access={"grants": [{**_GUARDS, "until": "2027-01-01T00:00:00Z"}]}),
        _spec(_rtsp(), access={"grants": [{**_GUARDS, "until": "2028-01-01T00:00:00Z"}]}),
        set(),
        {VIEW},
    ),
]
