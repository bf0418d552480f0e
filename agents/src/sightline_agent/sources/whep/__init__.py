"""Pulling from another WHEP server: the session, and RTP taken over before it would be decoded."""
