"""Exact match and ROUGE-L of single rows: the numbers of rouge-score, in any script, on real texts and hostile ones."""

import csv
import itertools
import random
import re
import time
from pathlib import Path

import pytest
from rouge_score.rouge_scorer import RougeScorer

import nightshift
from nightshift.evaluation.likeness import exact_match, rouge_l, stems

SAMPLE = Path(nightshift.__file__).parent / "samples" / "banking77"

NOT_LATIN = [
    "您的卡片尚未到达",
    "新しいカードは月曜日に届きます。",
    "карта в пути",
    "البطاقة في الطريق",
    "कार्ड रास्ते में है",
    "บัตรของคุณอยู่ที่ไหน",
    "카드가 어디에 있나요?",
    "η κάρτα είναι καθ' οδόν",
    "הכרטיס בדרך",
    "👍🏽",
]


def real_pairs():
    """Messages paired with other messages and with a shuffle of their own words."""
    with (SAMPLE / "2026-11-02.csv").open(encoding="utf-8") as file:
        texts = [row["text"] for row in itertools.islice(csv.DictReader(file), 150)]
    chance = random.Random(1)
    shuffled = [" ".join(chance.sample(words, len(words))) for words in map(str.split, texts)]
    return [*itertools.pairwise(texts), *zip(texts, shuffled, strict=True)]


class Stems:
    """Our words as a tokenizer of rouge-score."""

    def tokenize(self, text):
        return stems(text)


def test_rouge_l_is_that_of_rouge_score_with_our_words():
    pairs, scorer = [*real_pairs(), *itertools.pairwise(NOT_LATIN)], RougeScorer(["rougeL"], tokenizer=Stems())
    known = [scorer.score(reference, response)["rougeL"].fmeasure for response, reference in pairs]
    assert [rouge_l(*pair) for pair in pairs] == pytest.approx(known)


def test_on_plain_english_words_it_is_that_of_rouge_score_alone():
    pairs = [pair for pair in real_pairs() if re.fullmatch(r"[A-Za-z ?,!]+", " ".join(pair))]
    assert len(pairs) > 100
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    known = [scorer.score(reference, response)["rougeL"].fmeasure for response, reference in pairs]
    assert [rouge_l(*pair) for pair in pairs] == pytest.approx(known)


@pytest.mark.parametrize("text", NOT_LATIN)
def test_a_response_that_equals_its_reference_scores_one_in_any_script(text):
    assert rouge_l(text, text) == exact_match(text, text) == 1.0
    assert rouge_l(text, "где карта 卡片在哪里") < 1.0


@pytest.mark.parametrize(
    ("response", "reference", "score"),
    [
        ("您的卡片到了", "您的卡片尚未到达", 10 / 14),  # five of six characters, of eight
        ("карта в пути", "карта потеряна", 2 / 5),
        ("कार्ड रास्ते में है", "कार्ड रास्ते में नहीं है", 8 / 9),
        ("CARTE arrivée", "carte arrivée", 1.0),
        ("Straße", "STRASSE", 1.0),
        ("\uff21\uff22\uff23 \uff11\uff12", "abc 12", 1.0),
    ],
)
def test_words_of_other_scripts_count_as_those_of_english_do(response, reference, score):
    assert rouge_l(response, reference) == pytest.approx(score)


@pytest.mark.parametrize(
    ("response", "reference", "score"),
    [
        ("-5", "5", 0.0),
        ("\u22125", "-5", 1.0),  # the minus of a typesetter
        ("-$5", "$5", 0.0),
        ("$-5", "-$5", 1.0),
        ("it is -3.5 degrees", "it is 3.5 degrees", 6 / 8),
        ("3.14", "3 14", 0.0),
        ("1,250.50", "1,250.50", 1.0),
        ("10-12", "10\u201312", 1.0),  # a range is of two numbers, neither below zero
        ("5 to -5", "-5 to 5", 2 / 6),
    ],
)
def test_a_number_is_one_word_with_its_sign(response, reference, score):
    assert rouge_l(response, reference) == pytest.approx(score)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("Card  arrival.", "card arrival", True),
        (" card\narrival ", "CARD ARRIVAL", True),
        ("ﬁne", "fine", True),
        ("card arrivals", "card arrival", False),
        ("card, arrival", "card arrival", False),
        ("", "card arrival", False),
    ],
)
def test_exact_match_forgives_case_and_spaces_and_nothing_else(one, other, equal):
    assert exact_match(one, other) == equal


@pytest.mark.parametrize(
    ("response", "reference", "score"),
    [
        ("the card was lost", "the lost card", 4 / 7),
        ("", "card arrival", 0.0),
        ("card arrival", "", 0.0),
        ("...", "!!!", 0.0),
        ("cards arriving", "card arrived", 1.0),
        ("the customer\u2019s card", "the customer's cards", 1.0),
        ("👍", "👎", 0.0),  # without a word it is the exact match
    ],
)
def test_known_values(response, reference, score):
    assert rouge_l(response, reference) == pytest.approx(score)


def test_long_and_hostile_texts_end():
    assert rouge_l("y" * 200_000, "y" * 200_000) == 1.0
    assert rouge_l("card lost " * 20_000, "lost card " * 20_000) == pytest.approx(1, abs=0.001)
    for hostile in ("a" + "\u0301" * 50_000, "\U0001f1e6" * 50_000, "-$" * 25_000 + "5", "\u200d" * 50_000):
        assert rouge_l(hostile, hostile) == 1.0


@pytest.mark.parametrize(
    ("response", "reference", "equal"),
    [
        ("カードは月曜日に届きます。", "カードは月曜日に届きます", 1),
        ("您的卡在路上｡", "您的卡在路上", 1),
        ("कार्ड रास्ते में है।", "कार्ड रास्ते में है", 1),
        ("کارڈ راستے میں ہے" + "\u06d4", "کارڈ راستے میں ہے", 1),
        ("ქართული .", "ქართული", 1),
        ("\u200f" + NOT_LATIN[8] + "\u200f", NOT_LATIN[8], 1),  # marks of direction
        ("Bank\u00adkarte", "Bankkarte", 1),
        ("\ufeffcafe\u0301", "café", 1),
        ("wait...", "wait", 0),
        ("是", "不是", 0),
        ("।", "", 1),
        ("-5", "5", 0),
    ],
)
def test_exact_match_knows_full_stops_and_unseen_characters_of_every_script(response, reference, equal):
    assert exact_match(response, reference) == exact_match(reference, response) == equal


def test_texts_of_megabytes_cost_no_minutes():
    book = "你的卡在路上" * 40_000
    began = time.process_time()
    assert rouge_l(book, book) == 1
    assert rouge_l(book, "卡") < 0.001
    assert time.process_time() - began < 5
