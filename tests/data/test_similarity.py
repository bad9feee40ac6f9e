"""Which rows of an index are compared with those of an interval: all that share a band, and hardly another."""

import numpy as np
import pytest

from nightshift.data import shared_text, similarity
from nightshift.data.shared_text import SharedText, found_in
from nightshift.data.similarity import BAND, VALUES, SimilarRows, plain, signatures
from nightshift.data.words import folded


@pytest.mark.parametrize(
    ("written", "compared"),
    [
        ("Ｗｈｅｒｅ\u3000ｉｓ　ＣＡＲＤ １２?", "where is card 12?"),
        ("ｶｰﾄﾞは いつ", "カードは いつ"),
        ("can\u00adcel \u200bmy\ufeff \u200fcard", "cancel my card"),
        ("كتـــاب", "كتاب"),
        ("می\u200cخواهم 👩\u200d👧 ？", "می\u200cخواهم 👩\u200d👧 ？"),
    ],
)
def test_a_question_is_the_same_in_other_widths_and_with_what_shows_nothing(written, compared):
    assert folded(plain(written)) == compared


def test_of_two_widths_of_one_text_each_is_near_the_other(tmp_path):
    rows = SimilarRows(tmp_path / "similar", SharedText())
    rows.add([plain("ＡＴＭの手数料は１１０円ですか？"), plain("ATMの手数料は110円ですか？")], ["", ""])
    rows.close()
    assert list(rows.pairs()) == [(0, 1, 1.0, True)]
    rows.release()


def test_of_an_index_what_shares_a_band_with_a_row_is_let_through_and_a_near_row_is_found(tmp_path):
    questions = [f"how do i pay {number} coins into the account of my {number}th child?" for number in range(400)]
    rows = SimilarRows(tmp_path / "similar", SharedText())
    rows.add(questions, [""] * len(questions))
    of_rows = signatures(questions)
    index = np.random.default_rng(4).integers(0, 256, (5_000, VALUES), dtype=np.uint8)
    for place, row in zip(range(0, 5_000, 100), range(50), strict=True):
        band = slice(row % 25 * BAND, row % 25 * BAND + BAND)
        index[place, band] = of_rows[row, band]
    index[4_999] = of_rows[77]
    assert np.nonzero(rows.add_indexed(index))[0].tolist() == [*range(0, 5_000, 100), 4_999]
    rows.close()
    found = [pair for pair in rows.pairs() if pair[0] < 0]
    rows.release()
    assert (-51, 77, 1.0) in [pair[:3] for pair in found]


def test_many_rows_are_compared_in_parts_with_the_pairs_of_all_at_once(tmp_path, monkeypatch):
    questions = [f"where is card {number % 40} that i ordered on the {number % 30}th of may?" for number in range(150)]
    rows = SimilarRows(tmp_path / "similar", SharedText())
    rows.add(questions, [str(number % 3) for number in range(len(questions))])
    rows.add_indexed(signatures(questions[:50]))
    rows.close()
    at_once = list(rows.pairs())
    assert len(at_once) > 300
    monkeypatch.setattr(similarity, "KEYS_AT_ONCE", 130)
    monkeypatch.setattr(similarity, "BANDS_READ_AT_ONCE", 40)
    monkeypatch.setattr(similarity, "PAIRS_IN_ORDER", 100)
    assert list(rows.pairs()) == at_once
    rows.release()


@pytest.mark.parametrize("close", [0, 1_000_000])
def test_rows_are_compared_alike_whether_they_are_read_one_by_one_or_with_what_lies_between(
    tmp_path, monkeypatch, close
):
    monkeypatch.setattr(similarity, "CLOSE", close)
    monkeypatch.setattr(similarity, "RECORDS_AT_ONCE", 16)
    # The first twenty rows are asked again at the end, and stand in the index, too; nothing in between is like them.
    questions = [f"{number * 7919 % 1_000_003:x} {number * 104_729:x} coins" for number in range(200)]
    rows = SimilarRows(tmp_path / "similar", SharedText())
    rows.add([*questions, *questions[:20]], [str(number % 3) for number in range(220)])
    rows.add_indexed(signatures(questions[:20]))
    rows.close()
    found = {pair for pair in rows.pairs() if pair[2] == 1}
    rows.release()
    within = {(number, number + 200, 1.0, number % 3 == (number + 200) % 3) for number in range(20)}
    of_index = {(-1 - number, row, 1.0, False) for number in range(20) for row in (number, number + 200)}
    assert found == within | of_index


def test_texts_are_signed_alike_however_many_at_once(monkeypatch):
    texts = [f"frame {'x' * 30} {number} 日本語 {number * 31}" for number in range(60)] + ["a", " ", "é" * 90]
    shared = found_in(texts)
    left, taken = shared.left_out(texts)
    assert any(taken)
    at_once = signatures(left)
    monkeypatch.setattr(shared_text, "CHARACTERS_AT_ONCE", 100)
    assert shared.left_out(texts) == (left, taken)
    assert (signatures(left) == at_once).all()
