"""What was retrieved for an answer, where it is known which documents should be found."""

import pytest

from nightshift.evaluation.estimates import Comparison
from nightshift.evaluation.gates import gate
from nightshift.evaluation.retrieved import add_retrieval, relevant_in
from nightshift.settings.application import Application
from nightshift.settings.gate import Gate
from nightshift.verdict import Verdict


def passage(document, at=0):
    return {"id": f"{document}#{at}-{at + 9}", "document": document}


def compared(relevant, retrieved, k=2):
    comparison = Comparison(
        examples=len(relevant), scores={role: {} for role in retrieved}, differences={"champion": {}}
    )
    add_retrieval(comparison, relevant, retrieved, k)
    return comparison


def application(**fields):
    sources = [{"uri": "a.csv", "columns": {"prompt": "q", "answer": "a", "metadata": ["found_in"]}}]
    return Application(name="app", sources=sources, **fields)


def test_passages_are_measured_by_their_documents_or_their_own_ids_and_a_document_counts_once():
    relevant = [frozenset({"faq/1"}), frozenset({"faq/2#0-9", "faq/3"}), frozenset()]
    first = [passage("faq/9"), passage("faq/1"), passage("faq/1", 9)]
    second = [passage("faq/2", 50), passage("faq/3", 0), passage("faq/3", 9), passage("faq/2")]
    found = compared(relevant, {"candidate": [first, second, []], "champion": [None, None, None]}, k=3)
    assert found.with_documents == 2
    scores = found.scores["candidate"]
    assert scores["retrieval_recall"].value == 1
    assert scores["retrieval_mrr"].value == 0.5
    assert scores["retrieval_ndcg"].value == pytest.approx((0.6309 + (0.6309 + 0.5) / 1.6309) / 2, abs=1e-4)
    # A champion without an index gives nothing.
    assert found.scores["champion"]["retrieval_recall"].value == 0
    assert found.differences["champion"]["retrieval_recall"].value == 1


def test_ids_are_one_text_or_a_list_and_what_is_neither_is_an_id_that_nothing_has():
    assert relevant_in("faq/1") == {"faq/1"}
    assert relevant_in('["faq/1", "faq/2"]') == {"faq/1", "faq/2"}
    assert relevant_in("[draft] fees") == {"[draft] fees"}
    assert relevant_in(None) == relevant_in(" ") == relevant_in("[]") == frozenset()
    assert relevant_in("[" * 100_000) == {"[" * 100_000}


def test_a_gate_bounds_what_was_measured_and_counts_only_examples_whose_documents_are_known():
    policy = Gate(min_examples=3, conditions=[{"metric": "retrieval_recall", "at_least": 0.9}])
    known, given = [frozenset({"a"})] * 4, [[passage("a")]] * 4
    reasons = gate(compared(known, {"candidate": given, "champion": given}), policy).reasons
    assert any(reason.startswith("recall of documents of the candidate is 100.0") for reason in reasons)
    few = compared([*known[:2], frozenset(), frozenset()], {"candidate": given, "champion": given})
    decision = gate(few, policy)
    assert decision.verdict is not Verdict.PASS
    assert (
        "recall of documents of the candidate: 2 judged examples whose documents are known, at least 3 are asked for"
        in decision.reasons
    )


@pytest.mark.parametrize(
    ("relevant", "metric", "message"),
    [("other", "exact_match", "no source keeps 'other'"), (None, "retrieval_mrr", "needs `retrieval.relevant`")],
)
def test_a_column_that_nobody_keeps_and_a_bound_on_what_nobody_knows_are_refused(relevant, metric, message):
    fields = {
        "retrieval": {"documents": [{"uri": "faq/*.md"}], "relevant": relevant},
        "gate": {"conditions": [{"metric": metric, "at_least": 0.5}]},
    }
    with pytest.raises(ValueError, match=message):
        application(**fields)
    assert application(**fields | {"retrieval": {"documents": [{"uri": "faq/*.md"}], "relevant": "found_in"}})
