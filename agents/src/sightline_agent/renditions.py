"""All qualities of a camera: a hub each, by name, and their tasks.

The main source is `main`; each of the camera's further profiles has its own hub, which starts with its first viewer
and stops after its last, whatever the others do. Sessions attach here, control reads the reports and passes on new
configurations; `run` is supervised by the process. A hub belongs to one name and one kind of description for its whole
life: a profile that is taken out of the configuration is ended with its hub, and its viewers hear that it is idle.

Beside a hub whose stream some viewers cannot play stands a second one, whose source transcodes what the first one has.
It is made when the first such viewer comes and runs while there is one; to the outside it is the same quality.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from sightline_agent.attachment import Attachment, Wanted
from sightline_agent.errors import ProblemError
from sightline_agent.hub import Hub, Watcher
from sightline_agent.media.grammar import H264
from sightline_agent.media.playable import plays
from sightline_agent.sources.sound.process import Drop
from sightline_agent.transcode.source import Totals
from sightline_agent.transport.fanout import FanOutTotals
from sightline_model.agent import MAIN_PROFILE, AgentConfig, SourceReport
from sightline_model.camera import StartMode, TranscodeMode
from sightline_model.problems import Problem, ProblemCode

MakeHub = Callable[[str, AgentConfig], Hub]
"""A hub for the quality of that name, whose source is the configuration's."""
MakeTranscoded = Callable[[Hub, AgentConfig], Hub]
"""A hub whose source is the other hub's stream, transcoded."""
_TRANSCODED_IDLE_SECONDS = 3.0
"""A page that is loaded again finds the transcoder running; longer would be a waste of CPU."""


class Renditions:
    """The hubs of one camera."""

    def __init__(self, config: AgentConfig, make_hub: MakeHub, make_transcoded: MakeTranscoded) -> None:
        self._make_hub = make_hub
        self._make_transcoded = make_transcoded
        self._hubs: dict[str, Hub] = {}
        self._transcoded: dict[str, Hub] = {}
        self.transcoding = Totals()
        self.sound_dropped: Counter[Drop] = Counter()
        """Of the sound that is encoded again."""
        self._configs: dict[str, AgentConfig] = {}
        self._gone = FanOutTotals()
        self._wake = asyncio.Event()
        self._watchers: list[Watcher] = []
        self.reconfigure(config)

    @property
    def names(self) -> list[str]:
        """The qualities that viewers may ask for, the main one first."""
        return list(self._hubs)

    # Viewers

    async def attach(self, wanted: Wanted) -> Attachment:
        """Count a viewer in and wait for the picture; SourceError where there is none, ProblemError for an unknown
        quality."""
        hub = self._hubs.get(wanted.profile)
        if hub is None:
            raise ProblemError(
                Problem(code=ProblemCode.PROFILE_NOT_FOUND, detail="the camera has this quality no more")
            )
        name = hub.name
        format_ = await hub.attach()
        if H264 in wanted.codecs and not plays(format_.video, wanted.codecs):
            feed, hub = hub, self._transcoded_of(hub)
            try:
                format_ = await hub.attach()
            finally:
                feed.detach()
        tracks = hub.tracks
        return Attachment(
            profile=name,
            format=format_,
            pictures=tracks.pictures,
            sound=tracks.sound.fanout(format_.audio),
            want_key_frame=hub.want_key_frame,
            leave=hub.detach,
            sound_correction=tracks.sound.correction,
            key_frame=hub.key_frame,
        )

    def suits(self, place: Attachment, codecs: frozenset[str]) -> bool:
        """Whether a viewer who decodes `codecs` would get the same place now: cameras change what they send."""
        hub = self._hubs.get(place.profile)
        if hub is None or hub.format is None:
            return True
        return (place.pictures is hub.tracks.pictures) == plays(hub.format.video, codecs)

    def _transcoded_of(self, hub: Hub) -> Hub:
        if hub.name not in self._transcoded:
            self._transcoded[hub.name] = self._make_transcoded(hub, _while_watched(self._configs[hub.name]))
            self._wake.set()
        return self._transcoded[hub.name]

    # Control

    def report(self) -> SourceReport:
        """What the main source does now."""
        return self._hubs[MAIN_PROFILE].report()

    def reports(self) -> list[SourceReport]:
        """What the sources of the further profiles do now."""
        return [hub.report() for name, hub in self._hubs.items() if name != MAIN_PROFILE]

    def totals(self) -> FanOutTotals:
        """What was sent of all qualities, pictures and sound."""
        total = self._gone
        for hub in (*self._hubs.values(), *self._transcoded.values()):
            total = total + hub.tracks.totals()
        return total

    def subscribe(self, watcher: Watcher) -> Callable[[], None]:
        """Be told when the state of a source changes; the answer ends it."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def reconfigure(self, config: AgentConfig) -> None:
        """Another config is in force: qualities come, go, or get another source."""
        configs = {MAIN_PROFILE: config} | {p.name: _further(config, p.name) for p in config.profiles}
        for name in [name for name in self._hubs if name not in configs]:
            for hub in filter(None, (self._transcoded.pop(name, None), self._hubs.pop(name))):
                self._gone += hub.tracks.totals()
                hub.retire()
        self._configs = configs
        for name, hub in self._transcoded.items():
            hub.reconfigure(_while_watched(configs[name]))
        for name, of_it in configs.items():
            if name in self._hubs:
                self._hubs[name].reconfigure(of_it)
                continue
            self._hubs[name] = self._make_hub(name, of_it)
            self._hubs[name].subscribe(self._tell)
        self._wake.set()

    def _tell(self, report: SourceReport) -> None:
        for watcher in tuple(self._watchers):
            watcher(report)

    # The task

    async def run(self) -> None:
        """Run every hub until cancelled; raises when one fails."""
        tasks: dict[Hub, asyncio.Task[None]] = {}
        try:
            while True:
                self._wake.clear()
                hubs = {*self._hubs.values(), *self._transcoded.values()}
                await _end([tasks.pop(hub) for hub in tasks.keys() - hubs])
                for hub in hubs - tasks.keys():
                    tasks[hub] = asyncio.create_task(hub.run(), name=f"hub {hub.name}")
                waking = asyncio.create_task(self._wake.wait(), name="renditions")
                done, _ = await asyncio.wait({waking, *tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
                for task in done - {waking}:
                    task.result()
                    raise RuntimeError(f"{task.get_name()} ended by itself")
        finally:
            await _end(tasks.values())


async def _end(tasks: Iterable["asyncio.Task[None]"]) -> None:
    tasks = set(tasks)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _while_watched(config: AgentConfig) -> AgentConfig:
    """The same for a transcoder."""
    idle = min(config.lifecycle.idle_timeout, _TRANSCODED_IDLE_SECONDS)
    lifecycle = config.lifecycle.model_copy(update={"start": StartMode.ON_DEMAND, "idle_timeout": idle})
    return config.model_copy(update={"lifecycle": lifecycle, "transcode": TranscodeMode.AUTO})


def _further(config: AgentConfig, name: str) -> AgentConfig:
    """The configuration of a further quality: its own source, which runs only while it is watched."""
    source = next(profile.source for profile in config.profiles if profile.name == name)
    lifecycle = config.lifecycle.model_copy(update={"start": StartMode.ON_DEMAND})
    return config.model_copy(update={"source": source, "lifecycle": lifecycle})
