"""The mux with and without the native receiver: one suite for both."""

import importlib.util

import pytest

from sightline_agent.transport.receiver import NativeReceiver

NATIVE = pytest.mark.skipif(
    importlib.util.find_spec("sightline_fanout") is None, reason="not built: hack/build-fanout.sh"
)
MAKE_RECEIVER = [
    pytest.param(lambda: None, id="python"),
    pytest.param(NativeReceiver, id="native", marks=NATIVE),
]
