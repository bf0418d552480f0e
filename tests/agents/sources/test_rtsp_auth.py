"""Challenges and answers, by the examples of the RFCs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.sources.credentials import Credentials
from sightline_agent.sources.rtsp import auth

MUFASA = Credentials("Mufasa", "Circle of Life")
RFC7616 = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


def authorizer(challenge: str, credentials: Credentials = MUFASA) -> auth.Authorizer:
    found = auth.parse(challenge)
    assert found is not None
    return auth.Authorizer(found, credentials, lambda: CNONCE)


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_example_of_rfc_7616(algorithm: str, response: str) -> None:
    value = authorizer(RFC7616.format(algorithm)).field_for("GET", "/dir/index.html")
    assert f'response="{response}"' in value
    assert "qop=auth, nc=00000001" in value
    assert 'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"' in value


def test_the_old_digest_without_qop() -> None:
    challenge = 'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'
    value = authorizer(challenge, Credentials("Mufasa", "CircleOfLife")).field_for("GET", "/dir/index.html")
    assert 'response="1949323746fe6a43ef61f9606e7febea"' in value
    assert "qop" not in value
    assert "cnonce" not in value


def test_each_use_of_a_nonce_is_counted() -> None:
    one = authorizer(RFC7616.format("MD5"))
    one.field_for("GET", "/")
    assert "nc=00000002" in one.field_for("GET", "/")


def test_basic() -> None:
    one = authorizer('Basic realm="camera"', Credentials("admin", "pässword"))
    assert one.field_for("DESCRIBE", "rtsp://c/") == "Basic YWRtaW46cMOkc3N3b3Jk"


def test_the_strongest_is_chosen() -> None:
    md5, sha, basic = RFC7616.format("MD5"), RFC7616.format("SHA-256"), 'Basic realm="x"'
    assert auth.choose([basic, md5, sha]) == auth.parse(sha)
    assert auth.choose([md5, basic]) == auth.parse(md5)
    assert auth.choose([basic, "Bearer realm=x"]) == auth.parse(basic)
    assert auth.choose(["Bearer realm=x"]) is None


@pytest.mark.parametrize(
    "challenge",
    [
        "",
        'Digest realm="x"',
        'Digest realm="x", nonce="y", algorithm=SHA-512-256',
        'Digest realm="x", nonce="y", qop="auth-int"',
        'Digest realm="x", nonce="a\r\nb"',
    ],
)
def test_what_cannot_be_answered(challenge: str) -> None:
    assert auth.parse(challenge) is None


@given(st.text(max_size=200))
def test_noise_breaks_nothing(text: str) -> None:
    auth.parse(text)
    auth.parse(f"Digest {text}")


def test_nothing_shows_the_password() -> None:
    one = authorizer(RFC7616.format("MD5"))
    assert "Circle" not in repr(one)
    assert "Mufasa" not in repr(MUFASA) + str(MUFASA)
