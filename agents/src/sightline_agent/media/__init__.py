"""Frames and what is done to them before they leave: H.264 payloads, parameter sets, key frames."""
