"""Scores: known values, honest intervals, and the same numbers for the same answers."""

import math
import random
import statistics
import unicodedata

import pytest
from sacrebleu.metrics import BLEU

from nightshift.evaluation import scores
from nightshift.evaluation.scores import Answers, compare, per_example

WANTED = ["card arrival", "lost or stolen card", "exchange rate", "pending cash withdrawal"] * 25


def answers(texts, wanted=WANTED, loss=2.0):
    return Answers(answer=texts, reference=wanted, loss_sum=[loss] * len(wanted), answer_tokens=[4] * len(wanted))


def with_errors(share, seed=1):
    chance = random.Random(seed)
    return [text if chance.random() > share else "something else entirely" for text in WANTED]


def test_perfect_answers_score_one_and_empty_answers_zero():
    scores = compare({"candidate": answers(WANTED), "base": answers([""] * 100)}).scores
    for metric in ("exact_match", "rouge_l", "chrf", "bleu"):
        assert scores["candidate"][metric].value == pytest.approx(1)
        assert scores["base"][metric].value == pytest.approx(0)
    assert scores["candidate"]["loss"].value == pytest.approx(0.5)
    assert scores["candidate"]["perplexity"].value == pytest.approx(math.exp(0.5))


def test_rouge_counts_the_longest_common_subsequence_of_words():
    assert per_example(["the card was lost"], ["the lost card"])["rouge_l"] == [pytest.approx(2 * 2 / (4 + 3))]


def bleu(texts, wanted):
    return compare({"candidate": Answers(answer=texts, reference=wanted)}).scores["candidate"]["bleu"]


def test_bleu_is_that_of_sacrebleu():
    texts = with_errors(0.3)
    assert bleu(texts, WANTED).value == pytest.approx(BLEU().corpus_score(texts, [WANTED]).score / 100)


def test_bleu_of_chinese_is_that_of_sacrebleus_tokenizer_for_it():
    texts, wanted = ["您的卡片到达了吗 ok", "汇率是多少"] * 5, ["您的卡片尚未到达 ok", "汇率是多少"] * 5
    known = BLEU(tokenize="zh", effective_order=True).corpus_score(texts, [wanted])
    assert bleu(texts, wanted).value == pytest.approx(known.score / 100)


def test_bleu_of_equal_answers_is_one_however_short_they_are():
    intents = ["card arrival", "top up", "refund"] * 10
    score = bleu(intents, intents)
    assert (score.value, score.low, score.high) == pytest.approx((1, 1, 1))
    # Half of the words are right, all pairs of words, and four words are said for five.
    some = bleu(["card arrival", "cash", "no"] * 10, intents)
    assert some.value == pytest.approx((0.5 * 1) ** 0.5 * math.exp(1 - 5 / 4))


def test_equal_answers_score_one_in_every_measure_and_script():
    texts = ["您的卡片尚未到达", "карта в пути", "البطاقة في الطريق", "कार्ड रास्ते में है", "где моя карта", "card"]
    scores = compare({"candidate": Answers(answer=texts, reference=texts)}).scores["candidate"]
    assert {metric: score.low for metric, score in scores.items()} == pytest.approx(
        dict.fromkeys(("exact_match", "rouge_l", "chrf", "bleu"), 1.0)
    )


def test_intervals_hold_the_value_narrow_with_examples_and_never_change():
    few = compare({"candidate": answers(with_errors(0.3)[:20], WANTED[:20])}).scores["candidate"]["exact_match"]
    many = compare({"candidate": answers(with_errors(0.3))}).scores["candidate"]["exact_match"]
    for estimate in (few, many):
        assert estimate.low < estimate.value < estimate.high
    assert many.high - many.low < few.high - few.low
    assert compare({"candidate": answers(with_errors(0.3))}).scores["candidate"]["exact_match"] == many


def test_the_interval_of_a_share_is_about_the_one_of_the_textbook():
    estimate = compare({"candidate": answers(with_errors(0.3))}).scores["candidate"]["exact_match"]
    half = 1.96 * math.sqrt(estimate.value * (1 - estimate.value) / 100)
    assert (estimate.high - estimate.low) / 2 == pytest.approx(half, rel=0.15)


def test_two_models_are_compared_on_the_same_examples():
    champion = with_errors(0.3)
    candidate = list(champion)
    candidate[champion.index("something else entirely")] = WANTED[champion.index("something else entirely")]
    comparison = compare({"candidate": answers(candidate), "champion": answers(champion)})
    difference = comparison.differences["champion"]["exact_match"]
    assert difference.value == pytest.approx(0.01)
    assert difference.low >= 0
    own = comparison.scores["candidate"]["exact_match"]
    assert difference.high - difference.low < (own.high - own.low) / 2


def test_nothing_to_judge_is_said_as_such():
    nothing = compare({"candidate": answers([], []), "base": answers([], [])})
    assert nothing.examples == 0
    assert nothing.scores == {"candidate": {}, "base": {}}


@pytest.mark.parametrize("text", ["Où est ma carte à café ?", "บัตรของคุณ", "שָׁלוֹם לכם", "한국어 카드"])
def test_equal_answers_are_equal_in_whatever_form_their_marks_are(text):
    apart = unicodedata.normalize("NFD", text) + "\u200e"
    assert apart != text
    scores = compare({"candidate": Answers(answer=[apart], reference=[text])}).scores["candidate"]
    assert {name: scores[name].value for name in ("exact_match", "rouge_l", "chrf", "bleu")} == pytest.approx(
        {"exact_match": 1, "rouge_l": 1, "chrf": 1, "bleu": 1}
    )


def test_losses_are_compared_over_the_examples_that_every_model_could_read():
    def answers(loss, tokens):
        return Answers(answer=["a"] * 4, reference=["a"] * 4, loss_sum=loss, answer_tokens=tokens)

    read, little = answers([1.0, 1.0, 9.0, 9.0], [1, 1, 1, 1]), answers([2.0, 2.0, 0.0, 0.0], [1, 1, 0, 0])
    scores = compare({"candidate": read, "champion": little}).scores
    assert [scores[role]["loss"].value for role in ("candidate", "champion")] == [1.0, 2.0]
    nothing = answers([0.0] * 4, [0] * 4)
    assert "loss" not in compare({"candidate": read, "champion": nothing}).scores["champion"]


def test_resamples_of_many_examples_are_drawn_a_few_at_a_time_and_are_the_same(monkeypatch):
    given = {"candidate": answers(with_errors(0.3)), "base": answers(with_errors(0.5))}
    whole = compare(given)
    monkeypatch.setattr(scores, "DRAWN_AT_ONCE", 700)
    parts = compare(given)
    for role, metrics in whole.scores.items():
        for metric, estimate in metrics.items():
            assert parts.scores[role][metric].model_dump() == pytest.approx(estimate.model_dump())


def test_scores_of_drawn_answers_are_means_over_the_samples():
    drawn = Answers(answer=["a b c", "x"], reference=["a b c", "d"], others=[["a b c", "d"], ["no", "d"]])
    found = scores.mean_per_example(drawn)["exact_match"]
    assert found == pytest.approx([2 / 3, 2 / 3])
    assert compare({"candidate": drawn}).scores["candidate"]["exact_match"].value == pytest.approx(2 / 3)
    assert scores.spread(drawn)["exact_match"] == pytest.approx(statistics.stdev([0.5, 1, 0.5]))
    assert scores.spread(drawn.model_copy(update={"others": []})) == {}


def test_losses_that_one_of_the_models_does_not_tell_are_not_compared():
    untold = Answers(answer=WANTED, reference=WANTED)
    comparison = compare({"champion": answers(WANTED), "candidate": untold})
    assert (
        set(comparison.scores["champion"])
        == set(comparison.scores["candidate"])
        == set(comparison.differences["champion"])
    )
    assert "loss" not in comparison.scores["champion"]
