"""Python's patterns in DuckDB's dialect: the same texts are found, or there is no translation."""

import re

import duckdb
import pytest

from nightshift.data.regexes import to_re2

TEXTS = [
    "", "\n", "card", "card\n", "card\n\n", "Card arrival", "a\nb", "aab", "aXb", "12", "\uff11\uff12", "\u0663", "naïve",
    "日本語", "a\u00a0b", "\u200b", "\x1c", "x\x00y", "[a-z]", "a|b", "🙂", "a_b", "é", "\u2028", "-", "^", "\\", "abcabcabc",
]  # fmt: skip


@pytest.mark.parametrize(
    "pattern",
    [
        "", "card", "^card$", r"\Acard\Z", "^$", "^a.b$", "a.b", r"\d", r"\D", r"^\d+$", r"\w", r"^\W$", r"\s", r"^\S+$",
        "[^a-z]", r"[\d\s]", r"[^\w]", r"^[\W_]+$", "a|b$", "(?:a|b)+$", "(ca|na)", "(?P<word>c)ard", "^a{2}b", "(abc){2,3}",
        "a*?b", "[]^-]", r"\\", r"[\\]", "x\x00", "🙂", "[é-ï]", "(^a|b)", ".+\n", r"[^\n]\Z", "(a$|b$)",
    ],
)  # fmt: skip
def test_duckdb_finds_the_texts_that_python_finds(pattern):
    translated = to_re2(pattern)
    assert translated is not None
    found = duckdb.execute(
        "SELECT list_transform($texts, lambda text: regexp_matches(text, $pattern))",
        {"texts": TEXTS, "pattern": translated},
    ).fetchall()[0][0]
    assert dict(zip(TEXTS, found, strict=True)) == {text: bool(re.search(pattern, text)) for text in TEXTS}


@pytest.mark.parametrize(
    "pattern",
    [
        r"\bcard", "(?=a)", "(?<!a)b", r"(a)\1", "(?i)card", "(?s).", "(?m)^a", "(?i:a)", "a$\n", "(a$)*", "a{1001}",
        "(?>a)b", "a++",
    ],
)  # fmt: skip
def test_what_duckdb_would_find_elsewhere_has_no_translation(pattern):
    assert to_re2(pattern) is None


def test_a_broken_pattern_is_told():
    with pytest.raises(re.error):
        to_re2("(")
