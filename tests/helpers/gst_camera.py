"""An RTSP camera that we did not write: GStreamer's RTSP server, run by Debian's own Python (package python3-gi).

Run as a program: `/usr/bin/python3 tests/helpers/gst_camera.py --port 8554`. It prints a JSON line when it listens and
one for each client that connects or leaves, so that tests can count connections at the camera.
"""

import argparse
import json
import sys
from typing import Any

import gi  # type: ignore[import-not-found]

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # type: ignore[import-not-found]  # noqa: E402

ENCODERS = {
    "h264": "x264enc {tune} speed-preset={preset} bitrate=2000 key-int-max={fps} "
    "! video/x-h264,profile={profile}{form} ! rtph264pay name=pay0 pt=96 config-interval={interval}",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast bitrate=2000 key-int-max={fps} "
    "! rtph265pay name=pay0 pt=96 config-interval=1",
}


SOUNDS = {
    "pcmu": "audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay name=pay1 pt=0",
    "pcma": "audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay1 pt=8",
    "opus": "audio/x-raw,rate=48000,channels=1 ! opusenc ! rtpopuspay name=pay1 pt=97",
    "aac": "audio/x-raw,rate=16000,channels=1 ! voaacenc bitrate=32000 ! aacparse ! rtpmp4gpay name=pay1 pt=98",
    "l16": "audio/x-raw,rate=16000,channels=1 ! audioconvert ! rtpL16pay name=pay1 pt=99",
}


def say(event: str, **details: Any) -> None:
    """One JSON line for the test that started us."""
    print(json.dumps({"event": event, **details}), flush=True)


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--codec", choices=sorted(ENCODERS), default="h264")
    parser.add_argument("--sound", choices=sorted(SOUNDS), help="a tone beside the pictures")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    parser.add_argument("--profile", default="constrained-baseline", help="of H.264: main, high, ...")
    parser.add_argument("--b-frames", action="store_true", help="let the encoder use B-frames")
    parser.add_argument("--interlaced", action="store_true")
    parser.add_argument("--out-of-band", action="store_true", help="parameter sets in the SDP alone")
    parser.add_argument("--udp-only", action="store_true", help="refuse RTP over TCP")
    parser.add_argument("--tcp-only", action="store_true", help="refuse RTP over UDP")
    parser.add_argument("--certificate", help="PEM file with certificate and key: rtsps")
    parser.add_argument("--digest", action="store_true", help="ask for Digest instead of Basic authentication")
    options = parser.parse_args()

    Gst.init(None)
    width, height = options.size.split("x")
    server = GstRtspServer.RTSPServer()
    server.set_address(options.host)
    server.set_service(str(options.port))
    factory = GstRtspServer.RTSPMediaFactory()
    picture = f"video/x-raw,format=I420,width={width},height={height},framerate={options.fps}/1"
    if options.interlaced:
        picture += ",interlace-mode=interleaved,field-order=top-field-first"
    encoder = ENCODERS[options.codec].format(
        fps=options.fps,
        tune=f"interlaced={options.interlaced} "
        + ("bframes=3 b-adapt=false" if options.b_frames else "tune=zerolatency"),
        # The fastest preset uses nothing that Main and High have beyond Baseline.
        preset="ultrafast" if options.profile == "constrained-baseline" else "superfast",
        profile=options.profile,
        form=",stream-format=avc" if options.out_of_band else "",
        interval=0 if options.out_of_band else 1,
    )
    ways = GstRtsp.RTSPLowerTrans
    if options.udp_only or options.tcp_only:
        factory.set_protocols(ways.UDP if options.udp_only else ways.TCP)
    sound = f"audiotestsrc is-live=true freq=1000 volume=0.3 ! {SOUNDS[options.sound]}" if options.sound else ""
    factory.set_launch(f"( videotestsrc is-live=true pattern=ball ! {picture} ! timeoverlay ! {encoder} {sound} )")
    factory.set_shared(True)
    server.get_mount_points().add_factory("/cam", factory)
    if options.user:
        protect(server, factory, options)
    if options.certificate:
        auth = server.get_auth() or GstRtspServer.RTSPAuth()
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(options.certificate))
        server.set_auth(auth)
    server.connect("client-connected", on_client)
    if server.attach(None) == 0:
        sys.exit("cannot listen")
    say("listening", port=server.get_bound_port())
    GLib.MainLoop().run()


def protect(server: Any, factory: Any, options: argparse.Namespace) -> None:
    """Let only the one user in."""
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    if options.digest:
        auth.set_supported_methods(2)  # GST_RTSP_AUTH_DIGEST; the enumeration is not exported to Python
        auth.add_digest(options.user, options.password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(options.user, options.password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)


def on_client(_server: Any, client: Any) -> None:
    """Tell of a client, and of its end."""
    say("connected")
    client.connect("closed", lambda _client: say("closed"))


if __name__ == "__main__":
    main()
