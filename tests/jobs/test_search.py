"""A search from its plan to its result, with a real (tiny) model: what is better is found, and what is not is no candidate."""

import signal
from datetime import UTC, datetime

import pytest
from answered_intervals import start
from indexed import pinned
from mlflow import MlflowClient
from searches import Run, publish_rows, searching
from upath import UPath

from nightshift.jobs import search_result, search_trial
from nightshift.retrieval.newest import Newest, name_newest
from nightshift.settings.decoding import Decoding
from nightshift.settings.prompt import Prompt
from nightshift.settings.retrieval import Retrieval
from nightshift.storage.application_version import open_version
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import read_file

pytestmark = pytest.mark.slow


@pytest.fixture
def search(application, storage, champion, progress, publish_day, tiny_models):  # noqa: PLR0917
    """A function that begins a search; the model answers every row rightly, unless its decoding cuts the answer off."""

    def begin(decoding, choices, **fields):
        fields |= {"decoding": decoding, "prompt": Prompt(system="x")}
        app = searching(application.model_copy(update=fields), choices)
        publish_rows(publish_day, app, tiny_models.answer)
        found = champion()
        return Run(app, storage, (found.model, found.digest), progress)

    return begin


CUT = Decoding(stop=["arrival"])


def test_the_best_trial_is_shown_to_be_better_and_mlflow_has_every_trial(search):
    tried = [{}, {"stop": ["c"]}, {"stop": ["d"]}]
    run = search(CUT, {"decoding": tried})
    rungs = run.rungs()
    assert [[one["trial"] for one in rung] for rung in rungs] == [[0, 1, 2, 3], [0, 1, 2], [0, 1]]
    assert [rung[0]["rows"] for rung in rungs] == [5, 10, 10], "one that is left alone answers no more"
    found = run.result(rungs)
    assert found.better
    assert "above 0 at a level of 0.05" in found.reasons[0]
    version = open_version(found.model, found.model_digest, run.common["application"])
    assert (version.parts.decoding, version.parts.prompt) == (Decoding(), Prompt(system="x"))
    before = run.answers
    assert search_trial.run(run.specs(rungs[:1])[1], run.progress).model_dump() == rungs[1][1]
    assert run.result(rungs) == found
    assert run.answers == before, "nothing was asked twice"

    partition = UPath(found.search)
    kept = read_file(partition, require_manifest(partition), search_result.PROMPT).decode()
    assert '<message role="system">x</message>' in kept
    client = MlflowClient()
    parent = client.get_run(found.run_url.rsplit("/", 1)[-1])
    nested = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", order_by=["start_time ASC"]
    )
    assert [one.info.run_name for one in nested][:2] == ["as today", "decoding {}"]
    assert len(nested) == 4
    assert nested[1].data.params == {"decoding": "{}"}
    history = client.get_metric_history(nested[1].info.run_id, "exact_match")
    assert {(one.step, one.value) for one in history} == {(5, 1.0), (10, 1.0)}
    assert parent.data.metrics["gain/low"] > 0
    assert "| as today | 0.0 of 5 | 0.0 of 10 | 0.0 of 10 | 0.0 |" in parent.data.tags["mlflow.note.content"]
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {
        "prompt.yaml", "search.html", "search.json",
    }  # fmt: skip

    # Had a trial been left that is as bad as today, the same comparison would say so.
    none = run.result([rungs[0], [one for one in rungs[1] if one["trial"] != 1]])
    assert not none.better
    assert none.reasons[0].startswith('nothing better than today: decoding {"stop": ["c"]}: gain in exact match')


def test_trials_that_retrieve_differently_are_known_by_their_answers_and_passages(
    search, application, storage, progress
):
    documents = [("fees", "", "A card costs 5 euros."), ("arrival", "", "It arrives soon.")]
    index = pinned(documents, storage, application=application.name)
    name_newest(storage, application.name, Newest(uri=index.uri, digest=index.digest, read=datetime.now(UTC)))
    by_words = {"retrieval": [{"search": "bm25", "k": 1}]}
    run = search(Decoding(), by_words, retrieval=Retrieval(documents=[{"uri": "faq/*.md"}]))
    today, other = [search_trial.run(spec, progress) for spec in run.specs([])]
    assert "context_words" not in today.metrics, "it was made before there was an index"
    assert {"tokens", "latency_ms", "context_words", "citing", "groundedness"} <= set(other.metrics)
    assert (other.metrics["context_words"], other.metrics["citing"]) == (6, 0)
    assert other.seconds > 0


def test_a_trial_that_was_killed_goes_on_with_the_answers_that_it_had(search, tmp_path, forked_jobs):
    run = search(CUT, {"decoding": [{}]})
    spec = run.specs([])[1].model_copy(update={"rung": 2})
    assert (
        start("search_trial", spec, tmp_path / "first", ("nightshift.evaluation.answers", "_ask", 2)) == -signal.SIGKILL
    )
    (kept,) = run.answers
    assert start("search_trial", spec, tmp_path / "second") == 0
    assert kept in run.answers
    assert len(run.answers) == 2
