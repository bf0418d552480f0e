"""Which of the offered H.264 variants fits a source best (RFC 6184 section 8.1).

Passthrough cannot change the stream, so the best fit is the offered profile that comes nearest to the source's, from
above if possible. A browser that only names Constrained Baseline usually decodes more than it says: it is served too.
Levels are not compared: decoders do not keep to them, and offers allow asymmetry.
"""

import re
from collections.abc import Sequence
from enum import StrEnum

_HEX = re.compile(r"[0-9a-fA-F]{6}")
DEFAULT_PROFILE_LEVEL_ID = "42000a"
"""What an offer without profile-level-id means: Baseline, level 1."""


class Profile(StrEnum):
    """Profiles that browsers and cameras have."""

    CONSTRAINED_BASELINE = "constrained-baseline"
    BASELINE = "baseline"
    EXTENDED = "extended"
    MAIN = "main"
    CONSTRAINED_HIGH = "constrained-high"
    HIGH = "high"
    HIGH_444 = "high-444"


_P = Profile
# What a decoder of the profile decodes besides, nearest first.
_DECODES: dict[Profile, tuple[Profile, ...]] = {
    _P.CONSTRAINED_BASELINE: (),
    _P.BASELINE: (_P.CONSTRAINED_BASELINE,),
    _P.EXTENDED: (_P.BASELINE, _P.CONSTRAINED_BASELINE),
    _P.MAIN: (_P.CONSTRAINED_BASELINE,),
    _P.CONSTRAINED_HIGH: (_P.CONSTRAINED_BASELINE,),
    _P.HIGH: (_P.CONSTRAINED_HIGH, _P.MAIN, _P.CONSTRAINED_BASELINE),
    _P.HIGH_444: (_P.HIGH, _P.CONSTRAINED_HIGH, _P.MAIN, _P.CONSTRAINED_BASELINE),
}
# When none suffices, the most able one is the best guess.
_ABILITY = (
    _P.HIGH,
    _P.CONSTRAINED_HIGH,
    _P.MAIN,
    _P.CONSTRAINED_BASELINE,
    _P.BASELINE,
    _P.EXTENDED,
    _P.HIGH_444,
)


def is_profile_level_id(text: str) -> bool:
    """Six hex digits."""
    return _HEX.fullmatch(text) is not None


def profile_of(profile_level_id: str) -> Profile | None:
    """The profile of a profile-level-id; None for what is unknown or no such id."""
    if not is_profile_level_id(profile_level_id):
        return None
    idc, flags = int(profile_level_id[:2], 16), int(profile_level_id[2:4], 16)
    match idc:
        case 0x42:
            return _P.CONSTRAINED_BASELINE if flags & 0x40 else _P.BASELINE
        case 0x4D:
            return _P.CONSTRAINED_BASELINE if flags & 0x80 else _P.MAIN
        case 0x58:
            return _P.CONSTRAINED_BASELINE if flags & 0xC0 == 0xC0 else _P.EXTENDED
        case 0x64:
            return _P.CONSTRAINED_HIGH if flags & 0x0C == 0x0C else _P.HIGH
        case 0xF4:
            return _P.HIGH_444
        case _:
            return None


def best_fit(source: str, offered: Sequence[str]) -> int:
    """Index of the offered profile-level-id that fits `source` best, of equal ones the first."""
    wanted = profile_of(source) or _P.CONSTRAINED_BASELINE
    return min(range(len(offered)), key=lambda i: _distance(wanted, profile_of(offered[i])))


def _distance(wanted: Profile, offered: Profile | None) -> int:
    if offered is None:
        return 100
    if offered is wanted:
        return 0
    if wanted in _DECODES[offered]:
        return 1 + _DECODES[offered].index(wanted)
    # "Baseline" cameras do not use what the constrained profile lacks.
    if wanted is _P.BASELINE:
        return 10 + _distance(_P.CONSTRAINED_BASELINE, offered)
    return 50 + _ABILITY.index(offered)
