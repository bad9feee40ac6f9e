"""Which version of an application answers a user, while two of them do: a keyed hash, the same here and in serving code.

Without dependencies, so that a serving system can copy it; `docs/split.md` has it in words, with test vectors.
"""

import hashlib
import hmac


def point_of(key: str, unit: str) -> float:
    """Return where a unit lies between 0 (included) and 1: the first 13 hex digits of HMAC-SHA256, over 16 to the 13th.

    These are 52 bits, which a floating-point number of any language holds exactly.

    :param key: of the split. Another one draws another order.
    :param unit: what is assigned as a whole: the stored pseudonym of a user, for example.
    """
    return int(_hash(key, unit)[:13], 16) / 16**13


def is_challengers(key: str, unit: str, share: float) -> bool:
    """Return whether the challenger answers a unit. Whoever it answers at one share it answers at every larger one, too."""
    return point_of(key, unit) < share


def group_of(key: str, unit: str, groups: int) -> int:
    """Return the group, from 0, in which a unit is counted: by other digits of the same hash than those that assign it."""
    return int(_hash(key, unit)[13:26], 16) % groups


def _hash(key: str, unit: str) -> str:
    return hmac.digest(key.encode(), unit.encode(), hashlib.sha256).hex()
