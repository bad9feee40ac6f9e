"""A release whose first intervals measure less than promised: people are told, or it is taken back by itself, once."""

import itertools
import shutil
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from ledger_intervals import publish_interval
from mlflow import MlflowClient
from release_tasks import FORM, Killer
from retraining_tasks import context
from upath import UPath

from nightshift.alerts.outbox import Outbox
from nightshift.evaluation.estimates import Estimate
from nightshift.evaluation.watch_file import WATCH, Measure, WatchFile, watch_partition
from nightshift.ledger import orders
from nightshift.ledger.records import Release
from nightshift.ledger.store import Ledger
from nightshift.orchestration import promote, release, release_watch
from nightshift.orchestration.contest import ReleaseDecision
from nightshift.registry.versions import CANDIDATE, CHAMPION, DIGEST_TAG
from nightshift.settings.applications import applications_folder, load_application
from nightshift.storage.files import scratch
from nightshift.storage.partition import publish
from nightshift.verdict import Verdict

pytestmark = pytest.mark.slow

NUMBER = itertools.count()
NOW = datetime(2026, 11, 20, tzinfo=UTC)
FELL = Measure(
    metric="exact_match", promised=0.75, promised_rows=240, measured=0.61, rows=640, level=0.008,
    difference=Estimate(value=-0.14, low=-0.23, high=-0.06),
)  # fmt: skip


class Watched:
    """An application with some champions, one after the other, the last of which is watched."""

    def __init__(self, storage, versions, rollback):
        self.name, self.storage = f"watched_{next(NUMBER)}", storage
        self.client, self.versions = MlflowClient(), versions
        file = {"sources": [{"uri": "/data/*.csv", "columns": {"prompt": "text"}}], "watch": {"rollback": rollback},
                "retraining": {"nights": 1, "of_nights": 1, "min_new_examples": 0, "cooldown_days": 0}}  # fmt: skip
        (applications_folder() / f"{self.name}.yaml").write_text(yaml.safe_dump(file))
        self.client.create_registered_model(self.name)
        for number in range(1, versions + 1):
            self.client.create_model_version(self.name, "s3://gone/model", tags={DIGEST_TAG: str(number) * 64})
        self.start_over()

    def start_over(self):
        """As after the last release, before any of its intervals."""
        ledger = UPath(self.storage).joinpath(self.name, "ledger")
        if ledger.exists():
            ledger.fs.rm(ledger.path, recursive=True)
        for number in range(1, self.versions + 1):
            at = NOW + timedelta(hours=number)
            self.ledger.create(
                Release(number=number, ahead=True, version=str(number), model_digest=str(number) * 64, released=at)
            )
        for alias in (CHAMPION, CANDIDATE):
            self.client.set_registered_model_alias(self.name, alias, str(self.versions))

    def looked(self, verdict, look=1, release=None):
        """What the job `drift` would publish."""
        release = release or self.versions
        file = WatchFile(
            application=self.name, release=release, version=str(release), promised_by="shadow",
            intervals=[f"2026-11-{20 + number}" for number in range(look)], of=3, drifted=[], measures=[FELL],
            margin=0.05, verdict=verdict, reasons=[str(FELL)],
        )  # fmt: skip
        folder = scratch(UPath(self.storage))
        (folder / WATCH).write_text(file.model_dump_json())
        at = watch_partition(self.storage, self.name, release, look)
        publish(at, folder, kind="watch", application=self.name, inputs={"look": look})
        shutil.rmtree(folder, ignore_errors=True)

    def run(self, run_id="run"):
        """The tasks `watch` and `promote` of a run of the drift DAG; of one that is skipped, why."""
        try:
            decided = release_watch.watch.function(self.name, **context(run_id))
        except AirflowSkipException as skipped:
            return str(skipped)
        return promote.promote.function(self.name, decided, **context(run_id))

    @property
    def ledger(self):
        return Ledger(self.storage, self.name)

    @property
    def champion(self):
        return self.client.get_model_version_by_alias(self.name, CHAMPION).version

    @property
    def released(self):
        return [one.version for one in self.ledger.releases()]

    @property
    def told(self):
        """The alerts of the mailbox, and those that hold."""
        outbox = Outbox(self.storage, self.name)
        every = [*outbox.undelivered(), *(one for message in outbox.messages(50) for one in message.alerts)]
        return [one for one in every if one.kind == "below_promise"], [one.condition for one in outbox.open()]


@pytest.fixture
def watched(storage, shown):
    """A function that makes an application with so many champions."""
    return lambda versions=2, rollback="automatic": Watched(storage, versions, rollback)


def test_a_release_that_keeps_its_promise_or_has_no_interval_yet_is_left_alone(watched):
    app = watched()
    assert app.run() == "no interval of the newest release was compared with its promised scores yet"
    app.looked(Verdict.WARN)
    assert app.run().startswith("WARN: version 2, 1 of 3 intervals: exact match 61.0% in 640 rows")
    assert (app.champion, app.released, app.told) == ("2", ["1", "2"], ([], []))


def test_a_breach_takes_the_release_back_by_itself_and_says_what_was_promised_and_measured(watched):
    app = watched()
    app.looked(Verdict.PASS)
    app.looked(Verdict.FAIL, look=2)
    moved = app.run()
    assert (moved["version"], moved["replaced"], app.champion, app.released) == ("1", "2", "1", ["1", "2", "1"])
    (kept,) = app.ledger.gate_records()
    assert (kept.by, kept.person, kept.released) == ("watch", None, True)
    assert kept.reasons[0] == "version 2 was taken back; version 1 was the champion before"
    assert kept.numbers["exact match, promised"] == 0.75
    assert app.client.get_model_version(app.name, "2").tags["nightshift.release"] == "rolled back"
    told, still = app.told
    bad, good = sorted(told, key=lambda alert: alert.good)
    assert (bad.severity, bad.good, good.good, still) == ("critical", False, True, [])
    assert "exact match 61.0% in 640 rows against promised 75.0% in 240: -14.0 points [-23.0, -6.0]" in bad.facts[0]
    assert app.run() == "no interval of the newest release was compared with its promised scores yet", (
        "an earlier champion is not watched"
    )


def test_what_was_taken_back_does_not_return_by_itself_and_its_nights_order_no_retraining(watched):
    app = watched()
    app.looked(Verdict.FAIL)
    app.run()
    decided = ReleaseDecision(**release.release.function(app.name, **context("daily", params=FORM)))
    assert not decided.released
    assert "version 2 was the champion before; to bring it back, give its number and a reason" in decided.reasons[0]
    night = publish_interval(app.storage, 21, "FAIL", model="2" * 64, application=app.name)
    decision = orders.evaluate(load_application(app.name), app.ledger, night, datetime.now(UTC))
    assert (decision.code, app.ledger.orders()) == ("too_few_nights", {})


def test_where_people_are_asked_nothing_moves_and_they_are_led_to_the_form_once(watched):
    app = watched(rollback="ask")
    app.looked(Verdict.FAIL)
    for run_id in ("first", "second"):
        assert app.run(run_id).endswith("an alert was sent, and people decide")
    assert (app.champion, app.released, app.ledger.gate_records()) == ("2", ["1", "2"], [])
    (alert,), still = app.told
    assert still == ["below promise"]
    assert alert.todo == f"read the numbers; start {app.name}_rollback to take the release back within a minute"
    assert set(alert.links) <= {"Roll back", "Task log", "Nightshift"}


def test_the_first_champion_stays_and_people_are_told_that_there_is_no_other(watched):
    app = watched(versions=1)
    app.looked(Verdict.FAIL)
    app.run()
    assert (app.champion, app.released) == ("1", ["1"])
    ((alert,), _) = app.told
    assert "there is no earlier champion to go back to" in alert.todo


def test_nothing_is_taken_back_while_the_alias_was_moved_by_hand(watched):
    app = watched()
    app.looked(Verdict.FAIL)
    app.client.set_registered_model_alias(app.name, CHAMPION, "1")
    with pytest.raises(AirflowFailException, match="somebody moved it by hand"):
        app.run()
    assert app.released == ["1", "2"]


def test_killed_at_any_write_it_goes_on_and_there_is_one_champion_and_one_release(watched, monkeypatch):
    app = watched()
    app.looked(Verdict.FAIL)
    killer = Killer(monkeypatch)
    for number in range(1, 30):
        killer.left, kills, moved = number, 0, ""
        while not isinstance(moved, dict):
            try:
                decided = release_watch.watch.function(app.name, **context("run"))
                while not isinstance(moved, dict):
                    try:
                        moved = promote.promote.function(app.name, decided, **context("run"))
                    except KeyboardInterrupt:
                        kills += 1
            except KeyboardInterrupt:
                kills += 1
        assert (app.champion, app.released) == ("1", ["1", "2", "1"]), f"killed at write {number}"
        assert [record.by for record in app.ledger.gate_records()] == ["watch"]
        if not kills:
            break
        killer.left = 0
        for version, tag in (("1", "release"), ("1", "release_number"), ("2", "release")):
            app.client.delete_model_version_tag(app.name, version, f"nightshift.{tag}")
        app.start_over()
    assert not kills
    assert number > 5
