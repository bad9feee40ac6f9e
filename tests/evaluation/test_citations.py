"""What an answer cites of the passages that it was given, and how many of these were needed."""

import pytest

from nightshift.evaluation.citations import of_answer, of_passages

PASSAGES = [
    {"id": "faq/fees#0-40", "document": "faq/fees"},
    {"id": "faq/cards#0-60", "document": "faq/cards"},
    {"id": "faq/fees#30-80", "document": "faq/fees"},
]
CONTEXT = "[1] A replacement costs 5 euros.\n[2] Cards arrive within five days.\n[3] Cash is free."
FEES = frozenset(["faq/fees"])


@pytest.mark.parametrize(
    ("answer", "existing", "relevant"),
    [
        ("A replacement costs 5 euros [1].", 1, 1),
        ("5 euros [1], within five days [2].", 1, 1 / 2),
        ("5 euros [1, 3].", 1, 1),
        ("5 euros [1][1][7] [0].", 1 / 3, 1 / 3),
    ],
)
def test_what_is_cited_is_there_or_not_and_relevant_or_not(answer, existing, relevant):
    found = of_answer(answer, PASSAGES, CONTEXT, FEES)
    assert (found["citing"], found["citations_existing"], found["citations_relevant"]) == (1, existing, relevant)


def test_an_answer_that_cites_nothing_has_no_correctness_of_citations():
    found = of_answer("A replacement costs 5 euros, [see] list[12345].", PASSAGES, CONTEXT, FEES)
    assert found == {"citing": 0, "groundedness": found["groundedness"]}


def test_where_nobody_knows_what_is_relevant_only_existence_is_measured():
    assert "citations_relevant" not in of_answer("5 euros [2].", PASSAGES, CONTEXT, frozenset())
    assert of_passages(PASSAGES, CONTEXT, frozenset(), 3) == {"context_words": 16}


def test_context_precision_is_the_share_of_passages_that_should_have_been_found():
    assert of_passages(PASSAGES, CONTEXT, FEES, 3)["context_precision"] == 2 / 3
    assert of_passages(PASSAGES, CONTEXT, frozenset(["faq/fees#0-40"]), 3)["context_precision"] == 1 / 3
    assert of_passages([], None, FEES, 3) == {
        "context_words": 0, "context_precision": 0, "retrieval_recall": 0, "retrieval_mrr": 0, "retrieval_ndcg": 0,
    }  # fmt: skip
