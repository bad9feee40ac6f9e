"""Duplicates go, near-duplicates go or share a split, and neither depends on how many other rows there are."""

import json
import random

import numpy as np
import pytest

from nightshift.data.examples import side_of
from nightshift.data.similarity import signatures
from nightshift.settings.intake import Columns, Ingest, Splits

LONG = "Why was I charged a fee when I paid with my card in another country last week, and who do I talk to about it?"


def rows(*texts, **more):
    return "".join(json.dumps({"text": text, **more}) + "\n" for text in texts)


@pytest.fixture
def ingest_texts(ingest, source_of):
    def run(*texts, content=None, **settings):
        columns = Columns(prompt="text", answer="answer", id="id")
        source = source_of("rows.jsonl", content or rows(*texts), columns=columns)
        return ingest(source, settings=Ingest(**settings))

    return run


def jaccard(one, other):
    pieces = [{text[at : at + 5] for at in range(len(text) - 4)} for text in (one, other)]
    return len(pieces[0] & pieces[1]) / len(pieces[0] | pieces[1])


def test_signatures_estimate_the_jaccard_similarity():
    one, other = LONG.lower(), LONG.lower().replace("another country", "some other town")
    first, second = signatures([one, other])
    assert np.mean(first == second) == pytest.approx(jaccard(one, other), abs=0.15)


def test_a_signature_does_not_depend_on_the_rows_beside_it():
    texts = ["a", "", LONG, "🙂", LONG * 50]
    alone = np.vstack([signatures([text]) for text in texts])
    assert (signatures(texts) == alone).all()


def test_of_equal_conversations_the_first_is_kept(ingest_texts):
    result = ingest_texts("Hello there", "Something else", "Hello there", " Hello  there".replace("  ", " "))
    assert [row["source_row"] for row in result.examples] == [1, 2]
    assert result.counts["duplicates"] == 2


def test_the_same_row_delivered_twice_is_a_duplicate_and_not_an_error(ingest_texts):
    result = ingest_texts(content=rows("Hello there", "Hello there", id="7"))
    assert (result.counts["duplicates"], result.counts["quarantined"]) == (1, 0)


def test_of_near_duplicates_with_one_answer_the_earliest_is_kept(ingest_texts):
    result = ingest_texts("First", LONG, LONG + "!", LONG.upper(), LONG.replace("a fee", "fees"))
    assert [row["source_row"] for row in result.examples][:2] == [1, 2]
    assert result.counts["near_duplicates"] >= 2


def test_near_duplicates_with_other_answers_are_kept_and_share_a_split(ingest_texts):
    content = "".join(rows(LONG + end, answer=f"answer {end}") for end in ("", "!", "?!", " Thanks", " Please help"))
    result = ingest_texts(content=content)
    assert len(result.examples) == 5
    assert len({row["group"] for row in result.examples}) == 1
    assert len({row["split"] for row in result.examples}) == 1
    assert result.examples[0]["group"] == result.examples[0]["digest"][:16]


def test_at_one_only_exact_duplicates_go(ingest_texts):
    assert ingest_texts(LONG, LONG + " Please help", near_duplicates=1.0).counts["near_duplicates"] == 0


def test_rows_that_have_nothing_in_common_are_groups_of_their_own(ingest_texts):
    result = ingest_texts("Where is my card?", "How do I top up?", "x", "y")
    assert all(row["group"] == row["digest"][:16] for row in result.examples)


def test_planted_near_duplicates_share_a_split_among_many_rows(ingest_texts):
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(3_000)]
    originals = [" ".join(chance.choices(words, k=15)) for _ in range(500)]
    copies = [" ".join([*text.split()[:-1], "changed"]) for text in originals]
    result = ingest_texts(*originals, *copies, near_duplicates=1.0)
    split = {row["prompt"]: row["split"] for row in result.examples}
    together = sum(split[one] == split[other] for one, other in zip(originals, copies, strict=True))
    assert together >= 0.99 * len(originals)
    # And they were not put together by putting everything together.
    assert len({row["group"] for row in result.examples}) > 480


def test_in_a_long_text_a_whole_question_that_differs_is_no_near_duplicate(ingest_texts):
    document = " ".join(
        f"On line {number} of the timetable a train leaves at {number % 24}:{number % 60:02}." for number in range(60)
    )
    asked = ["Which line leaves first?", "Does anything run after midnight?", "Does anything run after midnight"]
    result = ingest_texts(content="".join(rows(*(f"{document} {question}" for question in asked), answer="yes")))
    assert [row["source_row"] for row in result.examples] == [1, 2]
    assert len({row["split"] for row in result.examples}) == 1


def test_splits_have_about_the_shares_asked_for_and_never_change():
    splits = Splits(train=0.5, traffic=0.3, held_out=0.2)
    found = [side_of(f"{number:064x}", splits) for number in range(4_000)]
    shares = {name: found.count(name) / len(found) for name in ("train", "traffic", "held_out")}
    assert shares == pytest.approx({"train": 0.5, "traffic": 0.3, "held_out": 0.2}, abs=0.03)
    assert side_of("0" * 64, splits) == side_of("0" * 64, splits)
    assert not {"traffic", "development"} & {side_of(f"{number:064x}", Splits()) for number in range(1_000)}
