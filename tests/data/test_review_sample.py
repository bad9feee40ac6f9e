"""Which answers people are shown: those of which the model was least sure, and no question over and over."""

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.data.review_sample import chosen
from nightshift.monitoring.topics import Embedder

SURE, UNSURE = -0.01, -2.0
QUESTIONS = [
    "Why was my card payment declined at the supermarket?",
    "How do I change the address of my account?",
    "Is there a fee when I withdraw cash in Japan?",
    "What documents do you need to verify my identity?",
]


@pytest.fixture
def shown(tmp_path):
    """A function that returns the strata of the chosen rows by prompt, of prompts with their values."""

    def show(rows, many):
        table = [{"row": number, "digest": row["prompt"], "response": "?", **row} for number, row in enumerate(rows)]
        pq.write_table(pa.Table.from_pylist(table), tmp_path / "interactions.parquet")
        found = chosen(tmp_path / "interactions.parquet", "d", many, b"key", {}, Embedder())
        assert len(found) == min(many, len(rows))
        return {row["row"]: row["chosen"] for row in found}

    return show


def test_half_are_of_all_and_without_a_judge_or_passages_the_others_what_the_model_was_least_sure_of(shown):
    rows = [
        {"prompt": f"{word} {QUESTIONS[n % 4]}", "logprob": SURE, "valid": 1.0} for n, word in enumerate("abcdefgh" * 5)
    ]
    for number in (3, 8, 21, 34, 6, 17):
        rows[number]["logprob"] = UNSURE
    strata = shown(rows, 8)
    assert Counter(strata.values()) == {"random": 4, "uncertain": 4}
    assert {row for row, stratum in strata.items() if stratum == "uncertain"} <= {3, 8, 21, 34, 6, 17}


def test_a_question_that_many_ask_is_shown_once_while_there_are_others_of_which_the_model_is_unsure(shown):
    asked = [
        {"prompt": "Where is my new card?!" if n % 2 else "where is my new card", "logprob": 2 * UNSURE}
        for n in range(100)
    ]
    asked += [{"prompt": question, "logprob": UNSURE} for question in QUESTIONS]
    uncertain = [row for row, stratum in shown(asked, 8).items() if stratum == "uncertain"]
    assert len(uncertain) == 4
    assert sum(row < 100 for row in uncertain) <= 1
    assert shown(asked[:12], 5), "where all ask the same, it is shown all the same"
