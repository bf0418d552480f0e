"""What is sealed to a process is read by it alone."""

from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_model.sealing import SealError, SealingKey, seal

PURPOSE = "site/spare-one/spare"
SECRET = b"swordfish"


@given(plain=st.binary(max_size=4096), purpose=st.text(max_size=100))
def test_what_is_sealed_comes_out(plain: bytes, purpose: str) -> None:
    key = SealingKey()
    sealed = seal(plain, key.public, purpose)
    assert key.open(sealed, purpose) == plain


def test_each_seal_is_another_one_and_shows_nothing() -> None:
    key = SealingKey()
    first, second = seal(SECRET, key.public, PURPOSE), seal(SECRET, key.public, PURPOSE)
    assert first != second
    assert SECRET not in b64decode(first)
    assert key.public not in repr(key)


def test_nobody_else_opens_it() -> None:
    key, other = SealingKey(), SealingKey()
    sealed = seal(SECRET, key.public, PURPOSE)
    with pytest.raises(SealError):
        other.open(sealed, PURPOSE)
    with pytest.raises(SealError):
        key.open(sealed, "site/spare-two/spare")


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_bit_of_it_may_change(place: int, bit: int) -> None:
    key = SealingKey()
    sealed = bytearray(b64decode(seal(SECRET, key.public, PURPOSE)))
    sealed[place % len(sealed)] ^= 1 << bit
    with pytest.raises(SealError):
        key.open(b64encode(bytes(sealed)).decode(), PURPOSE)


@pytest.mark.parametrize("text", ["", "AAAA", "no base64!", "ä"])
def test_what_is_no_seal(text: str) -> None:
    with pytest.raises(SealError) as caught:
        SealingKey().open(text, PURPOSE)
    assert text not in str(caught.value) or not text


@pytest.mark.parametrize(
    "public", ["", "AAAA", "no base64!", "ä", b64encode(bytes(32)).decode(), b64encode(bytes(31)).decode()]
)
def test_what_is_no_key(public: str) -> None:
    with pytest.raises(SealError):
        seal(SECRET, public, PURPOSE)
