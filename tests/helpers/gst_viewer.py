"""A WHEP viewer that we did not write: GStreamer's webrtcbin, run by Debian's own Python.

Packages: python3-gi, gir1.2-gst-plugins-bad-1.0, gstreamer1.0-plugins-bad, gstreamer1.0-nice, gstreamer1.0-libav.
Run as a program: `/usr/bin/python3 tests/helpers/gst_viewer.py --frames 60 http://127.0.0.1:8080/whep`. What webrtcbin
does not do by itself is HTTP: it offers, we post the offer and hand it the answer. Prints a JSON line when that many
frames were decoded, and ends.
"""

import argparse
import json
import sys
import urllib.request
from typing import Any
from urllib.parse import urljoin

import gi  # type: ignore[import-not-found]

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # type: ignore[import-not-found]  # noqa: E402

_CAPS = "application/x-rtp,media=video,clock-rate=90000,payload=96"
OFFERS = {
    "h264": f"{_CAPS},encoding-name=H264,packetization-mode=(string)1",
    "h265": f"{_CAPS},encoding-name=H265",
}
DECODERS = {
    "h264": "rtph264depay ! h264parse ! avdec_h264",
    "h265": "rtph265depay ! h265parse ! avdec_h265",
}
END = "fakesink name=end signal-handoffs=true sync=false"

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Viewer:
    """One attempt to watch."""

    def __init__(self, url: str, frames: int, codec: str) -> None:
        self._codec = codec
        self._url = url
        self._wanted = frames
        self._frames = 0
        self._size = ""
        self._resource = ""
        self._loop = GLib.MainLoop()
        self._pipeline = Gst.Pipeline()
        self._peer = Gst.ElementFactory.make("webrtcbin")
        self._peer.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self._pipeline.add(self._peer)
        self._peer.connect("pad-added", self._on_pad)
        self._peer.connect("notify::ice-gathering-state", self._on_gathering)
        direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
        transceiver = self._peer.emit("add-transceiver", direction, Gst.Caps.from_string(OFFERS[codec]))
        transceiver.set_property("do-nack", True)
        bus = self._pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", lambda _bus, message: self._fail(str(message.parse_error())))

    def run(self, seconds: int) -> dict[str, Any]:
        """Play, hang up, and tell what was seen."""
        GLib.timeout_add_seconds(seconds, lambda: self._fail(f"{self._frames} frames within {seconds} s"))
        self._pipeline.set_state(Gst.State.PLAYING)
        self._peer.emit("create-offer", None, Gst.Promise.new_with_change_func(self._on_offer))
        self._loop.run()
        self._pipeline.set_state(Gst.State.NULL)
        with DIRECT.open(urllib.request.Request(self._resource, method="DELETE"), timeout=30) as answer:
            return {"frames": self._frames, "size": self._size, "hungUp": answer.status}

    def _on_offer(self, promise: Any) -> None:
        reply = promise.get_reply()  # owns the offer
        offer = reply.get_value("offer")
        self._peer.emit("set-local-description", offer, Gst.Promise.new())

    def _on_gathering(self, _peer: Any, _property: Any) -> None:
        state = self._peer.get_property("ice-gathering-state")
        if state == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            GLib.idle_add(self._post)

    def _post(self) -> bool:
        offer = self._peer.get_property("local-description").sdp.as_text()
        headers = {"Content-Type": "application/sdp"}
        request = urllib.request.Request(self._url, offer.encode(), headers, method="POST")
        with DIRECT.open(request, timeout=60) as response:
            text = response.read()
            self._resource = urljoin(self._url, response.headers["Location"])
        _, message = GstSdp.SDPMessage.new_from_text(text.decode())
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self._peer.emit("set-remote-description", answer, Gst.Promise.new())
        return False

    def _on_pad(self, _peer: Any, pad: Any) -> None:
        decoder = Gst.parse_bin_from_description(f"{DECODERS[self._codec]} ! {END}", True)
        decoder.get_by_name("end").connect("handoff", self._on_frame)
        self._pipeline.add(decoder)
        decoder.sync_state_with_parent()
        pad.link(decoder.get_static_pad("sink"))

    def _on_frame(self, _sink: Any, _buffer: Any, pad: Any) -> None:
        self._frames += 1
        if self._frames == self._wanted:
            picture = pad.get_current_caps().get_structure(0)
            self._size = f"{picture.get_value('width')}x{picture.get_value('height')}"
            GLib.idle_add(self._loop.quit)

    def _fail(self, why: str) -> bool:
        sys.stderr.write(f"gst_viewer: {why}\n")
        sys.exit(1)


def main() -> None:
    """Watch one address."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--codec", choices=sorted(OFFERS), default="h264")
    options = parser.parse_args()
    Gst.init(None)
    sys.stdout.write(json.dumps(Viewer(options.url, options.frames, options.codec).run(options.seconds)) + "\n")


if __name__ == "__main__":
    main()
