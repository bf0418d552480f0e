"""What the fan-outs share."""

from sightline_agent.transport.fanout import SendKeys, Viewer


def test_keys_are_not_shown() -> None:
    keys = SendKeys("SRTP_AEAD_AES_128_GCM", b"k" * 16, b"s" * 12)
    viewer = Viewer(("192.0.2.1", 1000), keys, 1, 96, 2, 97)
    assert "kkk" not in repr(keys)
    assert "sss" not in repr(viewer)
