"""The wire: one UDP port, STUN, DTLS, SRTP, RTCP and the fan-out to all viewers."""
