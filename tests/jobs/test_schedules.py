"""An hourly and a weekly application, while clocks are put back: every interval once, and what is counted in them."""

import csv
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DataInterval, TimeRestriction
from pendulum import instance
from published_examples import read_examples
from sample_intervals import NEW, QUIET, crown, messages
from upath import UPath

from nightshift.jobs import drift, evaluate, generate, ingest, reference, score, snapshot, validate
from nightshift.ledger import history, orders
from nightshift.ledger.records import Outcome, Release
from nightshift.ledger.store import Ledger
from nightshift.monitoring.due_intervals import expected_interval
from nightshift.settings.applications import load_application
from nightshift.settings.interval import Interval
from nightshift.storage.manifest import Parent, require_manifest
from nightshift.verdict import Verdict

pytestmark = pytest.mark.slow
DAG = Path(__file__).parents[2] / "dags" / "ingest.py"
ROWS = 200  # of an interval
APPLICATION = """\
schedule: {schedule}
timezone: Europe/Berlin
start: {start}
base_model: {model}
sources:
  - uri: {folder}/{{start:%Y-%m-%dT%H%z}}.csv
    columns: {{prompt: text, answer: intent, id: id, timestamp: at}}
ingest: {{splits: {{train: 0.3, traffic: 0.5, held_out: 0.2}}}}
validation: {{min_rows: 20}}
evaluation: {{max_examples: 40, max_new_tokens: 4}}
inference: {{max_new_tokens: 4, engine: transformers}}
drift: {{min_rows: 40}}
retraining: {{min_new_examples: 1}}
"""
# Schedule, first day, lengths of its intervals in hours: Berlin's clocks were put back on 25 October 2026 at 03:00.
HOURLY = ("'@hourly'", "2026-10-25", [1] * 8)
WEEKLY = ("0 6 * * 1", "2026-10-12", [168, 169, 168, 168, 168, 168, 168, 168])
LEARNED, QUIET_ONES = 4, 2  # intervals that the champion learns, then quiet ones; the rest holds new intents


class Place:
    """An application with its source, its intervals as Airflow makes them, and its jobs."""

    def __init__(self, app, intervals, storage, folder, progress):
        self.app, self.intervals, self.storage, self._progress = app, intervals, storage, progress
        self.ledger = Ledger(storage, app.name)
        self._folder, self._ids = folder, iter(range(10**6))
        self._quiet, self._new = (iter([row for day in days for row in messages(day)]) for days in (QUIET, NEW[2:]))

    def run(self, job, **arguments):
        return job.run(job.Spec(application=self.app, storage=self.storage, **arguments), self._progress)

    def deliver(self, interval, new=False):
        """Write the file of an interval; its first row is a late one."""
        local = interval.start.astimezone(self.app.zone)
        step = (interval.end - interval.start) / ROWS
        with (self._folder / f"{local:%Y-%m-%dT%H%z}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "at", "text", "intent"])
            for number, (text, intent) in enumerate(islice(self._new if new else self._quiet, ROWS), -1):
                rows.writerow([next(self._ids), (interval.start + number * step).isoformat(), text, intent])

    def ingest(self, interval):
        made = self.run(ingest, interval=interval.model_dump())
        assert self.run(validate, examples=made.examples, digest=made.digest).verdict in {Verdict.PASS, Verdict.WARN}
        return made

    def answer(self, interval, *, new):
        """An interval from its file to the decision after it: what was ingested, its verdict, and the decision."""
        self.deliver(interval, new)
        made = self.ingest(interval)
        prompts = {"prompts": made.examples, "digest": made.digest}
        said = self.run(generate, **prompts)
        self.run(score, **prompts, responses=said.responses, model=said.model, model_digest=said.model_digest)
        (judged,) = self.run(drift).nights
        night = history.published(judged.report)
        return made, judged, orders.evaluate(self.app, Ledger(self.storage, self.app.name), night, datetime.now(UTC))


@pytest.fixture(params=[HOURLY, WEEKLY], ids=["hourly", "weekly"])
def place(request, storage, tmp_path, progress, tiny_models, mlflow_store, monkeypatch):  # noqa: PLR0917
    schedule, start, lengths = request.param
    name, apps = request.node.callspec.id, tmp_path / "apps"
    apps.mkdir()
    lines = APPLICATION.format(schedule=schedule, start=start, model=tiny_models.random, folder=tmp_path)
    (apps / f"{name}.yaml").write_text(lines)
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
    intervals = list(islice(scheduled(DagBag(DAG).dags[f"{name}_ingest"]), len(lengths)))
    assert [(interval.end - interval.start) / timedelta(hours=1) for interval in intervals] == lengths
    return Place(load_application(name), intervals, storage, tmp_path, progress)


def scheduled(dag):
    """The data intervals of a DAG's scheduled runs, as the scheduler makes one from the one before."""
    stored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    restriction, last = TimeRestriction(instance(stored.start_date), None, catchup=True), None
    while True:
        info = stored.timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
        last = DataInterval(info.data_interval.start, info.data_interval.end)
        yield Interval(start=last.start.isoformat(), end=last.end.isoformat())


def test_every_interval_is_answered_once_and_the_policy_counts_intervals(place, publish_model, tiny_models):
    intervals, made = place.intervals, []
    assert all(one.end == after.start for one, after in pairwise(intervals))
    keys = [interval.key for interval in intervals]
    assert sorted(set(keys)) == keys
    for interval in intervals:
        # What a person types, and what the clock misses, is the interval of the scheduled run.
        assert place.app.interval_of((interval.start + timedelta(minutes=30)).isoformat()) == interval
        assert expected_interval(interval.end + timedelta(hours=4), place.app) == interval

    for interval in intervals[:LEARNED]:
        place.deliver(interval)
        made.append(place.ingest(interval))
    champion = first_champion(place, publish_model, tiny_models)
    assert history.new_examples(place.ledger, champion) == 0

    answered = [place.answer(interval, new=number >= QUIET_ONES) for number, interval in enumerate(intervals[LEARNED:])]
    made += [one[0] for one in answered]
    verdicts = [judged.verdict for _, judged, _ in answered]
    assert (set(verdicts[:QUIET_ONES]), set(verdicts[QUIET_ONES:])) <= ({Verdict.PASS, Verdict.WARN}, {Verdict.FAIL})
    decisions = [decision for _, _, decision in answered]
    assert [decision.code for decision in decisions] == ["quiet", "quiet", "too_few_nights", "tripped"]
    assert decisions[-1].nights == keys[-1:-4:-1]  # 3 newest intervals, whatever their length

    # Every row is in one partition.
    everything = [read_examples(UPath(one.examples), require_manifest(UPath(one.examples))).to_pylist() for one in made]
    ids = [row["id"] for rows in everything for row in rows]
    assert sum(one.rows_in for one in made) == ROWS * len(intervals)
    assert len(set(ids)) == len(ids) == sum(one.kept for one in made)
    assert [require_manifest(UPath(one.examples)).facts["late"] for one in made] == [1] * len(made)
    # New examples are those of the intervals after the champion's, once each.
    train = [sum(row["split"] == "train" for row in rows) for rows in everything]
    assert decisions[-1].numbers["new_examples"] == sum(train[LEARNED:])

    # The cooldown goes by days, not by intervals.
    orders.claim(place.ledger, "finetune", "a run", datetime.now(UTC))
    ended = {"explanation": "as it went", "ended": datetime.now(UTC)}
    orders.close(place.ledger, Outcome(number=1, result="registered", **ended))
    night = history.published(answered[-1][1].report).model_copy(update={"report_digest": "f" * 64})
    later = orders.evaluate(place.app, place.ledger, night, datetime.now(UTC) + timedelta(days=2))
    assert later.code == "cooldown"


def first_champion(place, publish_model, tiny_models):
    """Judge a model that learned nothing, and make it the champion; returns its release."""
    made = place.run(snapshot)
    at = {"snapshot": made.snapshot, "digest": made.digest}
    parent = Parent(uri=made.snapshot, digest=made.digest)
    partition, manifest = publish_model(tiny_models.random, application=place.app.name, parents=[parent])
    model = {"model": str(partition), "model_digest": manifest.digest}
    judged = place.run(evaluate, **at, **model, base_model=place.app.base_model)
    crown(place.app.name, manifest.digest, str(partition))
    place.run(reference, **at, **model, evaluation=judged.evaluation, evaluation_digest=judged.digest)
    release = Release(
        number=1, model_digest=manifest.digest, model=str(partition), version="1", released=datetime.now(UTC)
    )
    place.ledger.create(release)
    return release
