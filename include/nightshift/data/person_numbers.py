"""Numbers that a state gives to a person, in a text: by form and checksum (python-stdnum), some after a word alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.cn import ric
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.in_ import aadhaar
from stdnum.kr import rrn
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.tr import tckimlik
from stdnum.us import ssn

from nightshift.data.number_words import SSN_BEFORE, says_before
from nightshift.data.plain_text import blanked

US = re.compile(r"[0-9](?<![\d+-]\d)(?:\d{2}(?:(-)\d{2}-| \d{2} )\d{4}|\d{8})(?![\d-])")
# Those of Brazil, China and Korea are like no other number.
ALONE = re.compile(
    r"[0-9](?<![A-Za-z0-9_.-]\d)(?:(?P<cpf>\d{2}\.\d{3}\.\d{3}-\d{2})|(?P<ric>\d{16}[\dXx])|(?P<rrn>\d{5}-[1-8]\d{6}))"
    r"(?![A-Za-z0-9_-])"
)
OTHER = re.compile(r"[0-9](?<![A-Za-z0-9_.-]\d)(?:[ .-]?\d){8,14}(?![A-Za-z0-9_-])")
BEFORE = re.compile(
    r"(?<![^\W_])(?:(?P<aadhaar>aadha?ar|आधार)|(?P<cpf>cpf)|(?P<nhs>nhs)|(?P<nir>nir|sécurité sociale)|(?P<pesel>pesel)"
    r"|(?P<tckimlik>t\.?c\.? ?(?:kimlik|no)|tckn)|(?P<bsn>bsn|burgerservicenummer)|(?P<sin>(?-i:SIN)|social insurance)"
    r")(?![a-z])[^\d.!?\n]{0,16}$",
    re.IGNORECASE,
)
VALID: dict[str, Callable[[str], bool]] = {
    "aadhaar": aadhaar.is_valid, "bsn": bsn.is_valid, "cpf": cpf.is_valid, "nhs": nhs.is_valid, "nir": nir.is_valid,
    "pesel": pesel.is_valid, "ric": ric.is_valid, "rrn": rrn.is_valid, "sin": sin.is_valid, "tckimlik": tckimlik.is_valid,
}  # fmt: skip


def person_numbers(plain: str, letters: str) -> Iterator[tuple[int, int]]:
    """Yield where such numbers begin and end for a text as `PlainText` reads it."""
    found = [
        match.span()
        for match in US.finditer(plain)
        if (match[1] or says_before(SSN_BEFORE, letters, match.start())) and ssn.is_valid(match[0].replace(" ", "-"))
    ]
    found += [match.span() for match in ALONE.finditer(blanked(plain, found)) if VALID[match.lastgroup or ""](match[0])]
    yield from found
    for match in OTHER.finditer(blanked(plain, sorted(found))):
        said = BEFORE.search(letters, max(0, match.start() - 40), match.start())
        if said and VALID[said.lastgroup or ""](match[0]):
            yield match.span()
