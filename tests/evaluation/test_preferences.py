"""How often the chosen answer of a pair is the likelier one, over the pairs that every model could read."""

import pyarrow as pa
import pytest
from upath import UPath

from nightshift.evaluation.answer_file import ANSWER_SCHEMA
from nightshift.evaluation.answers import EvaluatedModel, ModelAnswers
from nightshift.evaluation.comparison import evaluation_of
from nightshift.evaluation.estimates import Comparison
from nightshift.evaluation.gates import gate
from nightshift.evaluation.preferences import add_preferences
from nightshift.settings.application import Application
from nightshift.settings.gate import Gate
from nightshift.storage.files import scratch
from nightshift.storage.manifest import Parent
from nightshift.storage.partition import partition_of, publish
from nightshift.verdict import Verdict


def compared(told):
    comparison = Comparison(examples=100, scores={role: {} for role in told}, differences={"champion": {}})
    add_preferences(comparison, told)
    return comparison


def test_only_pairs_that_all_models_read_count_and_gains_are_of_the_same_pairs():
    found = compared({"champion": [None, 0.0, 1.0, 0.0, None], "candidate": [None, 1.0, 1.0, 0.0, 1.0]})
    assert found.pairs == 3
    assert found.scores["champion"]["preference_accuracy"].value == pytest.approx(1 / 3)
    assert found.scores["candidate"]["preference_accuracy"].value == pytest.approx(2 / 3)
    assert found.differences["champion"]["preference_accuracy"].value == pytest.approx(1 / 3)


@pytest.mark.parametrize("told", [[], [None] * 100, [1.0] * 49])
def test_few_pairs_or_none_are_no_pass_however_many_examples_there_are(told):
    policy = Gate(conditions=[{"metric": "preference_accuracy", "at_least": 0.5}])
    decision = gate(compared({"champion": told, "candidate": told}), policy)
    assert decision.verdict is not Verdict.PASS
    count = sum(value is not None for value in told)
    assert (
        f"preference accuracy of the candidate: {count} judged preference pairs, at least 50 are required"
        in decision.reasons
    )


def test_what_people_chose_of_two_versions_measures_preferences_alone(storage):
    """It is what one of the versions said, which would be right by being the same."""
    rows = {
        digest: {"digest": digest, "metadata": [("review:chosen", chosen)], "rejected": None}
        for digest, chosen in (("a", "random"), ("b", "pair"))
    }
    table = pa.Table.from_pylist(
        [
            dict.fromkeys(ANSWER_SCHEMA.names)
            | {"digest": digest, "prompt": "q", "wanted": "yes", "answer": said, "too_long": False, "wanted_tokens": 0}
            | {"answer_tokens": 1, "finished": True, "wanted_loss": 0.0, "finish_reason": "stop", "preferred": preferred}
            | dict.fromkeys(("exact_match", "rouge_l", "chrf"), float(said == "yes"))
            for digest, said, preferred in (("a", "no", None), ("b", "yes", 1.0))
        ],
        schema=ANSWER_SCHEMA,
    )  # fmt: skip
    app = Application(name="app", base_model="m", sources=[{"uri": "x.csv", "columns": {"prompt": "q"}}])

    def published(name, **facts):
        at, counts = partition_of(storage, "app", name, "x"), {"examples": 2, "answer_tokens": 2, "too_long": 0}
        return publish(
            at,
            scratch(UPath(storage)),
            kind="answers",
            application="app",
            inputs={"of": name},
            counts=counts,
            facts=facts,
        )

    made = published("made", seconds=1.0, precision="float32", device="cpu")
    models = [EvaluatedModel(role, role, role, app, lambda folder: folder) for role in ("base", "candidate")]
    judged = [ModelAnswers(one, made, Parent(uri=f"{storage}/made", digest=made.digest), table, rows) for one in models]
    found = evaluation_of(judged, partition_of(storage, "app", "s"), published("s"), app, storage).scores.comparison
    assert (found.examples, found.pairs) == (1, 1)
    assert found.scores["candidate"]["exact_match"].value == 0
    assert found.scores["candidate"]["preference_accuracy"].value == 1
