"""An RTSP client for cameras (RFC 2326), RTP interleaved in the RTSP connection or over UDP.

`wire` splits the byte stream, `messages` reads and writes RTSP, `auth` answers challenges, `sdp` finds the video
track, `target` follows redirections, `feedback` reads and writes RTCP: all pure. `apart` chooses the code that looks at
every packet. `client` speaks to the camera, `udp` holds a stream's two ports, `handshake` leads to PLAY, `stream` is
what comes then, `source` is what the hub runs.
"""
