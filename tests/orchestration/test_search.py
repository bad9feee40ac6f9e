"""The DAG of a search: which trials go on, where it ends without a candidate, and how Airflow stores its tasks."""

from itertools import pairwise
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowSkipException
from airflow.serialization.serialized_objects import DagSerialization
from retraining_tasks import context

from nightshift.orchestration import search

FILE = Path(__file__).parents[2] / "dags" / "search.py"
ROWS = "sources: [{uri: /data/rows.jsonl, columns: {prompt: question, answer: reply}}]\n"
SEARCH = """\
ingest: {splits: {train: 0.6, held_out: 0.2, development: 0.2}}
search: {schedule: "@weekly", choices: {few_shot: [2]}}
"""
PLAN = {"plan": "s3://plan", "digest": "d", "trials": 5, "eta": 3, "most_minutes": None}


def rung(number, **scores):
    return [
        {"trial": int(trial[1:]), "rung": number, "rows": 50, "score": score, "metrics": {}, "seconds": 60.0 * number}
        for trial, score in scores.items()
    ]


def following(*rungs, **plan):
    return [(one["trial"], one["rung"]) for one in search.contenders.function(PLAN | plan, rungs)]


def test_all_trials_begin_and_the_best_of_them_answer_more_rows_beside_today():
    assert following() == [(trial, 1) for trial in range(5)]
    assert following(rung(1, t0=0.9, t1=0.1, t2=0.5, t3=0.4, t4=0.2)) == [(0, 2), (2, 2), (3, 2)]
    assert search.contenders.function(PLAN, [])[0] == {"plan": "s3://plan", "digest": "d", "trial": 0, "rung": 1}


def test_a_trial_that_is_left_alone_answers_no_more_rows():
    assert following(rung(2, t0=0.9, t2=0.5, t3=0.4)) == [(0, 2), (2, 2)]


def test_when_the_minutes_of_answering_are_spent_the_best_trial_alone_is_left():
    first = rung(1, t0=0.9, t1=0.1, t2=0.5, t3=0.4, t4=0.2)  # a minute each
    assert following(first, most_minutes=6) == [(0, 2), (2, 2), (3, 2)]
    assert following(first, most_minutes=5) == [(0, 1), (2, 1)]
    # Those that were left out count, and what a trial took for its first rows counts once.
    second = rung(2, t0=0.9, t2=0.5, t3=0.4)
    assert following(first, second, most_minutes=9) == [(0, 2), (2, 2)]
    second = rung(2, t0=0.9, t1=0.1, t2=0.5, t3=0.4, t4=0.2)
    assert following(first, second, most_minutes=11) == [(0, 3), (2, 3), (3, 3)]


def test_the_best_of_the_last_rung_is_compared_with_the_scores_of_all():
    rungs = [rung(1, t0=0.5, t1=0.9, t2=0.6), rung(2, t0=0.7, t1=0.4, t2=0.6)]
    told = search.best.function(PLAN, rungs)
    assert (told["best"], told["plan"]) == (2, "s3://plan")
    assert [[one["score"] for one in scores] for scores in told["rungs"]] == [[0.5, 0.9, 0.6], [0.7, 0.4, 0.6]]


def test_an_application_without_a_search_and_a_search_without_a_better_trial_end_without_a_failure(project):
    (project / "apps" / "returns.yaml").write_text(ROWS)
    with pytest.raises(AirflowSkipException, match="no `search`"):
        search.today.function("returns", **context("run", params={}))
    nothing = {"better": False, "reasons": ["nothing better than today: …"]}
    with pytest.raises(AirflowSkipException, match="nothing better than today"):
        search.winner.function("returns", nothing, **context("run", params={}))


def test_the_trials_of_a_rung_are_mapped_and_a_search_runs_by_the_clock_only_where_the_file_says_so(project):
    (project / "apps" / "returns.yaml").write_text(ROWS)
    (project / "apps" / "tried.yaml").write_text(ROWS + SEARCH)
    dags = {name: DagSerialization.from_json(DagSerialization.to_json(dag)) for name, dag in DagBag(FILE).dags.items()}
    by_hand, by_clock = dags["returns_search"], dags["tried_search"]
    assert (by_hand.timetable.summary, by_clock.timetable.summary) == ("None", "0 0 * * 0")
    order = ["today", "snapshot", "search_plan", "start", "rung_1", "halve_2", "rung_2", "halve_3", "rung_3", "best"]
    order += ["search_result", "winner", "evaluate", "reference", "register", "announce"]
    assert set(by_hand.task_dict) == set(order)
    assert [name for name in order if by_hand.get_task(name).is_mapped] == ["rung_1", "rung_2", "rung_3"]
    assert all(after in by_hand.get_task(before).downstream_task_ids for before, after in pairwise(order))
