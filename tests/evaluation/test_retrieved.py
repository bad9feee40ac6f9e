"""What was retrieved for an answer, where it is known which documents should be found."""

import pyarrow as pa
import pytest
from upath import UPath

from nightshift.evaluation.answer_file import ANSWER_SCHEMA
from nightshift.evaluation.answers import EvaluatedModel, ModelAnswers
from nightshift.evaluation.comparison import evaluation_of
from nightshift.evaluation.estimates import Comparison
from nightshift.evaluation.gates import gate
from nightshift.evaluation.retrieved import add_retrieval, relevant_in
from nightshift.settings.application import Application
from nightshift.settings.gate import Gate
from nightshift.settings.pinned_index import PinnedIndex
from nightshift.storage.files import scratch
from nightshift.storage.manifest import Parent
from nightshift.storage.partition import partition_of, publish
from nightshift.verdict import Verdict

COUNTS = {"examples": 2, "answer_tokens": 2, "too_long": 0}


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


def test_an_evaluation_has_the_metrics_of_the_documents_that_a_column_of_the_examples_names(storage):
    app = application(retrieval={"documents": [{"uri": "faq/*.md"}], "relevant": "found_in"}, gate={"min_examples": 2})
    index = PinnedIndex(uri="memory://index", digest="i", search="hybrid", k=2)

    def published(kind, name, **facts):
        at = partition_of(storage, "app", name, "x")
        return publish(
            at, scratch(UPath(storage)), kind=kind, application="app", inputs={"of": name}, counts=COUNTS, facts=facts
        )

    examples = {
        digest: {"digest": digest, "metadata": [("found_in", ids)]} for digest, ids in (("a", '["faq/1"]'), ("b", ""))
    }

    def answered(role, application, retrieved):
        row = {"prompt": "q", "wanted": "yes", "answer": "yes", "answer_tokens": 1, "finished": True, "too_long": False}
        row |= {"wanted_tokens": 0, "wanted_loss": 0.0, "exact_match": 1.0, "rouge_l": 1.0, "chrf": 1.0}
        rows = [row | {"digest": digest, "finish_reason": "stop", "retrieved": retrieved} for digest in examples]
        made = published("answers", role, seconds=1.0, precision="float32", device="cpu")
        table = pa.Table.from_pylist(rows, schema=ANSWER_SCHEMA)
        model = EvaluatedModel(role, role, role, application, lambda folder: folder)
        return ModelAnswers(model, made, Parent(uri=f"{storage}/{role}", digest=made.digest), table, examples)

    judged = [
        answered(
            "base", app.answering_from(index), [passage("faq/2") | {"score": 1.0}, passage("faq/1") | {"score": 0.5}]
        ),
        answered("champion", app, None),
        answered("candidate", app.answering_from(index), [passage("faq/1") | {"score": 1.0}]),
    ]
    snapshot = partition_of(storage, "app", "snapshot", "x")
    evaluated = evaluation_of(judged, snapshot, published("snapshot", "snapshot"), app, storage)
    assert evaluated.scores.comparison.with_documents == 1
    shown = {role: evaluated.metrics[f"{role}/retrieval_mrr"] for role in ("base", "champion", "candidate")}
    assert shown == {"base": 0.5, "champion": 0.0, "candidate": 1.0}
    assert evaluated.metrics["candidate_minus_champion/retrieval_recall"] == 1


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
        "recall of documents of the candidate: 2 judged examples whose documents are known, at least 3 are required"
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
