"""Pulling from an RTMP server: values, chunks, video messages, and the conversation."""
