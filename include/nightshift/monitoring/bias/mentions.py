"""Finds prompts that mention a demographic group: word lists, matched as whole words, ignoring case.

A list names a group by words that rarely mean anything else; it finds what is said openly and nothing else. The lists are
in docs/bias.md, with what they miss.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# dimension -> group -> words. English; `old` alone is not there: "my old card".
WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "gender": {
        "female": (
            "she", "her", "hers", "herself", "woman", "women", "girl", "girls", "girlfriend", "wife", "daughter",
            "daughters", "mother", "mom", "mum", "sister", "sisters", "aunt", "niece", "grandmother", "granddaughter",
            "lady", "ladies", "mrs", "miss", "ma'am", "widow", "female",
        ),
        "male": (
            "he", "him", "his", "himself", "man", "men", "boy", "boys", "boyfriend", "husband", "son", "sons", "father",
            "dad", "brother", "brothers", "uncle", "nephew", "grandfather", "grandson", "gentleman", "gentlemen", "mr",
            "sir", "widower", "male",
        ),
        "other": ("nonbinary", "non-binary", "genderqueer", "transgender", "trans woman", "trans man", "intersex"),
    },
    "age": {
        "young": (
            "child", "children", "kid", "kids", "baby", "toddler", "teen", "teens", "teenager", "teenagers", "minor",
            "minors", "underage", "under 18", "youth", "my son", "my daughter", "school", "teenage",
        ),
        "old": (
            "elderly", "pensioner", "pensioners", "retired", "retiree", "retirees", "senior citizen", "senior citizens",
            "seniors", "old age", "grandmother", "grandfather", "grandparents", "old man", "old woman", "old lady",
        ),
    },
    "religion": {
        "christian": (
            "christian", "christians", "christianity", "catholic", "catholics", "protestant", "protestants", "mormon",
            "mormons", "church", "bible",
        ),
        "muslim": ("muslim", "muslims", "islam", "islamic", "mosque", "quran", "koran", "ramadan", "hijab", "halal"),
        "jewish": ("jewish", "jew", "jews", "judaism", "synagogue", "rabbi", "kosher", "shabbat", "torah"),
        "hindu": ("hindu", "hindus", "hinduism", "diwali"),
        "buddhist": ("buddhist", "buddhists", "buddhism"),
        "sikh": ("sikh", "sikhs", "sikhism"),
        "atheist": ("atheist", "atheists", "atheism"),
    },
    "origin": {
        "african": (
            "black people", "black man", "black woman", "african", "africans", "african american", "nigerian", "kenyan",
            "ghanaian", "somali", "ethiopian",
        ),
        "asian": (
            "asian", "asians", "chinese", "japanese", "korean", "vietnamese", "filipino", "thai", "indonesian", "indian",
            "indians", "pakistani", "bangladeshi",
        ),
        "european": (
            "white people", "white man", "white woman", "european", "europeans", "british", "english man", "irish",
            "french", "german", "italian", "spanish", "polish", "ukrainian", "russian", "romanian",
        ),
        "latin american": (
            "latino", "latina", "latinos", "latinas", "latinx", "hispanic", "hispanics", "mexican", "brazilian",
            "colombian", "cuban",
        ),
        "middle eastern": (
            "arab", "arabs", "middle eastern", "turkish", "iranian", "persian", "iraqi", "syrian", "egyptian",
            "moroccan", "saudi", "israeli", "palestinian",
        ),
        "immigrant": ("immigrant", "immigrants", "migrant", "migrants", "refugee", "refugees", "asylum seeker"),
    },
}  # fmt: skip


def pattern(words: tuple[str, ...]) -> str:
    """Return a regular expression (RE2) that finds any of `words` as a whole word; white space in it may be wider."""
    escaped = (r"\s+".join(map(re.escape, word.split())) for word in sorted(words, key=lambda word: (-len(word), word)))
    return rf"\b(?:{'|'.join(escaped)})\b"


def mentions(prompts: pa.Array) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield dimension, group and which of the prompts mention the group (boolean, as long as `prompts`)."""
    for dimension, groups in WORDS.items():
        every = tuple(word for words in groups.values() for word in words)
        some = np.flatnonzero(_found(prompts, every))
        chosen = prompts.take(pa.array(some))
        for group, words in groups.items():
            mask = np.zeros(len(prompts), bool)
            mask[some[_found(chosen, words)]] = True
            yield dimension, group, mask


def _found(prompts: pa.Array, words: tuple[str, ...]) -> np.ndarray:
    found = pc.match_substring_regex(prompts, pattern(words), ignore_case=True)
    return np.asarray(found.to_numpy(zero_copy_only=False), bool)
