"""An RTSP client for cameras (RFC 2326), RTP interleaved in the RTSP connection.

`wire` splits the byte stream, `messages` reads and writes RTSP, `auth` answers challenges, `sdp` finds the
video track: all pure. `client` speaks to the camera, `source` is what the hub runs.
"""
