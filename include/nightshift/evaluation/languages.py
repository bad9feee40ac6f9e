"""The language of a response: scorers give no score to responses in languages that they do not know.

Each scorer's module lists its languages as `LANGUAGES`.
"""

from __future__ import annotations

from nightshift.data.measures import UNDETERMINED, TextMeasures
from nightshift.data.words import UNSPACED

# A response of fewer words has too little to tell a language by: of English messages cut to one word 77 % are not
# recognised, to three words 12 %, to six 3 % (lid.176, confidence 0.4). Each character of a script without spaces counts.
MIN_WORDS = 4
ALIKE = frozenset({"zh", "ja"})  # lid.176 takes 3 % of Chinese questions for Japanese


def response_language(response: str, measures: TextMeasures) -> str:
    """Return the ISO 639 code of a response's language; `und` if undetermined, as for few words."""
    words = len(response.split()) + len(UNSPACED.findall(response))
    return measures.language(response) if words >= MIN_WORDS else UNDETERMINED


def language_of(response: str, prompt: str) -> str:
    """Return the language that a response counts as: its own, or if undetermined its prompt's, which may be `und`.

    :param response: its measured language, and `prompt` that of the prompt.
    """
    return prompt if response == UNDETERMINED else response


def differ(one: str, other: str) -> bool:
    """Return whether two texts are known to be in different languages; an undetermined one differs from none."""
    return one != other and UNDETERMINED not in {one, other} and {one, other} != ALIKE
