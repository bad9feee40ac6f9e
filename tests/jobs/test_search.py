"""A search from its plan to its result, with a real (tiny) model: what is better is found, and what is not is no candidate."""

import signal

import pytest
from answered_nights import start
from mlflow import MlflowClient
from searches import plan_of, planned, publish_rows, searching
from upath import UPath

from nightshift.jobs import search_result, search_trial
from nightshift.orchestration.search import best, contenders
from nightshift.settings.decoding import Decoding
from nightshift.settings.prompt import Prompt
from nightshift.storage.application_version import open_version
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import read_file

pytestmark = pytest.mark.slow


class Run:
    """A run of the search DAG, task by task."""

    def __init__(self, application, storage, champion, progress):
        self.common, self.progress = {"application": application, "storage": storage}, progress
        _, result = planned(application, storage, (champion.model, champion.digest), progress)
        self.planned, self.plan = result, plan_of(result)

    def specs(self, results):
        arguments = contenders.function(self.planned.model_dump(), results)
        return [search_trial.Spec(**self.common, **one) for one in arguments]

    def rungs(self):
        results, rungs = None, []
        for _ in range(3):
            results = [search_trial.run(spec, self.progress).model_dump() for spec in self.specs(results)]
            rungs.append(results)
        return rungs

    def result(self, rungs):
        spec = search_result.Spec(**self.common, **best.function(self.planned.model_dump(), rungs))
        return search_result.run(spec, self.progress)

    @property
    def answers(self):
        return sorted(
            path.name
            for path in (UPath(self.common["storage"]) / self.common["application"].name / "answers").iterdir()
        )


@pytest.fixture
def search(application, storage, champion, progress, publish_day, tiny_models):  # noqa: PLR0917
    """A function that begins a search; the model answers every row rightly, unless its decoding cuts the answer off."""

    def begin(decoding, choices):
        app = searching(application.model_copy(update={"decoding": decoding, "prompt": Prompt(system="x")}), choices)
        publish_rows(publish_day, app, tiny_models.answer)
        return Run(app, storage, champion(), progress)

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
    assert search_trial.run(run.specs(rungs[0])[1], run.progress).model_dump() == rungs[1][1]
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
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {"prompt.yaml", "search.json"}

    # Had a trial been left that is as bad as today, the same comparison would say so.
    none = run.result([rungs[0], [one for one in rungs[1] if one["trial"] != 1]])
    assert not none.better
    assert none.reasons[0].startswith('nothing better than today: decoding {"stop": ["c"]}: gain in exact match')


def test_a_trial_that_was_killed_goes_on_with_the_answers_that_it_had(search, tmp_path, forked_jobs):
    run = search(CUT, {"decoding": [{}]})
    spec = run.specs(None)[1].model_copy(update={"rung": 2})
    assert (
        start("search_trial", spec, tmp_path / "first", ("nightshift.evaluation.judge", "_ask", 2)) == -signal.SIGKILL
    )
    (kept,) = run.answers
    assert start("search_trial", spec, tmp_path / "second") == 0
    assert kept in run.answers
    assert len(run.answers) == 2
