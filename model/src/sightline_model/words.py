"""Words of others inside a message of ours: an agent's in a condition or a problem, the API server's in a diagnosis."""

import re

_PLAIN_WORD = re.compile(r"[a-z]+(?=[ ,]|$)")
"""What may be written with a capital: no address, no name of a host."""


def ended(words: str) -> str:
    """With one full stop, however they end; nothing where there are none."""
    told = words.strip().rstrip(" .")
    return f"{told}." if told else ""


def sentence(words: str) -> str:
    """What an agent says, as all messages are: agents begin small, for their words also stand after a colon."""
    told = ended(words)
    return f"{told[0].upper()}{told[1:]}" if _PLAIN_WORD.match(told.rstrip(".")) else told
