"""Topics of real messages: named, deterministic, and far from what they never saw."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import nightshift
from nightshift.monitoring.cells import histogram
from nightshift.monitoring.counting import Categories
from nightshift.monitoring.measured import EMBEDDING
from nightshift.monitoring.profiles import Profile
from nightshift.monitoring.topics import (
    NO_WORDS,
    TOPIC_NAMES,
    TOPIC_VECTORS,
    Embedder,
    fit_topics,
    read_topics,
)
from nightshift.monitoring.verdicts import judge_interval
from nightshift.settings.policies import Drift
from nightshift.verdict import Verdict

SAMPLES = Path(nightshift.__file__).parent / "samples" / "banking77"


def messages(day):
    with (SAMPLES / f"{day}.csv").open(encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def embedder():
    return Embedder()


@pytest.fixture(scope="module")
def topics(embedder):
    return fit_topics(messages("2026-11-02"), embedder)


def test_the_same_texts_give_the_same_topics(topics, embedder):
    again = fit_topics(messages("2026-11-02"), embedder)
    assert again.names == topics.names
    assert again.centres.tobytes() == topics.centres.tobytes()
    assert again.directions.tobytes() == topics.directions.tobytes()


def test_topics_are_as_many_as_the_texts_allow_and_each_has_a_name_of_its_own(topics):
    assert len(topics.names) == len(topics.centres) + 1 == 25  # the square root of half of 1,141, and one without words
    assert len(set(topics.names)) == len(topics.names)


def test_a_topic_is_named_by_what_its_messages_say(topics, embedder):
    placed = topics.place(embedder(["I forgot my PIN", "How do I change the PIN?", "top up by cheque"]))
    pin, change, top_up = (topics.names[topic] for topic in placed.topic)
    assert "pin" in pin
    assert "pin" in change
    assert "pin" not in top_up


def test_a_topic_in_another_script_is_named_by_whole_words(embedder):
    texts = ["मेरा कार्ड कहाँ है", "पासवर्ड बदलें", "รหัสผ่าน", "שָׁלוֹם"]
    names = fit_topics(texts, embedder).names
    assert {word for name in names[:-1] for word in name.split(" / ")} <= {
        word for text in texts for word in text.split()
    }


def test_new_intents_and_another_language_are_farther_from_every_topic_than_a_quiet_night(topics, embedder):
    quiet, new = (topics.place(embedder(messages(day))).novelty for day in ("2026-11-03", "2026-11-09"))
    french = topics.place(embedder(["Où est ma carte bancaire ?", "Je veux changer mon code secret."])).novelty
    assert new.mean() > quiet.mean() + quiet.std()
    assert french.mean() > quiet.mean() + 3 * quiet.std()


def test_a_text_without_words_has_a_topic_of_its_own(topics, embedder):
    placed = topics.place(embedder(["", "card"]))
    assert topics.names[placed.topic[0]] == NO_WORDS
    assert placed.novelty[0] == 1
    assert np.isfinite(placed.projections).all()


def test_a_megabyte_of_one_character_and_marks_of_direction_are_only_texts(topics, embedder):
    hostile = ["x" * 1_000_000, "\u202e\u2066<script>alert(1)</script>{{ 7 * 7 }}\x1b[31m", "\0", "card"]
    placed = topics.place(embedder(hostile))
    assert np.isfinite(placed.novelty).all()
    alone = topics.place(embedder(["card"]))
    assert placed.novelty[3] == pytest.approx(alone.novelty[0], abs=1e-6)


def test_what_was_written_is_read_again(topics, tmp_path):
    topics.write(tmp_path)
    read = read_topics(tmp_path / TOPIC_VECTORS, tmp_path / TOPIC_NAMES)
    assert read.names == topics.names
    assert (read.centres == topics.centres).all()
    assert (read.directions == topics.directions).all()


def test_few_or_equal_texts_have_few_topics(embedder):
    assert len(fit_topics(["card"] * 100, embedder).centres) == 1
    assert len(fit_topics(["my card", "a transfer", ""], embedder).centres) == 2
    with pytest.raises(ValueError, match="no text has a word"):
        fit_topics(["", ""], embedder)


@pytest.mark.parametrize("menu", [1, 2, 3, 8])
def test_prompts_from_a_menu_do_not_drift_by_how_their_distances_are_rounded(menu, embedder):
    texts = messages("2026-11-02")[:menu]
    topics, random = fit_topics(texts, embedder), np.random.default_rng(menu)

    def night(rows, shares):
        drawn = [texts[place] for place in random.choice(menu, rows, p=shares)]
        placed = topics.place(embedder(drawn))
        columns = dict(zip(EMBEDDING, placed.projections.T, strict=True)) | {"prompt_novelty": placed.novelty}
        names = Categories(Counter(topics.names[one] for one in placed.topic.tolist()))
        distributions = {("", name): histogram(values) for name, values in columns.items()} | {
            ("", "prompt_topic"): names
        }
        return Profile(distributions)

    usual = np.arange(1, menu + 1) / np.arange(1, menu + 1).sum()
    reference = night(600, usual)
    verdicts = [judge_interval(night(300, usual), reference, Drift()) for _ in range(10)]
    assert {one.verdict for one in verdicts} == {Verdict.PASS}
    if menu > 1:
        moved = judge_interval(night(300, usual[::-1]), reference, Drift())
        assert {"prompt_topic", "prompt_embedding"} <= set(moved.failing)
