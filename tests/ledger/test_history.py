"""What the ledger reads of the past: how much there is to learn that the champion has not seen."""

import shutil
from datetime import UTC, datetime, timedelta

from ledger_intervals import publish_interval
from upath import UPath

from nightshift.data.acceptance import record_acceptance
from nightshift.ledger import history
from nightshift.ledger.records import Release
from nightshift.ledger.store import Ledger
from nightshift.settings.interval import Interval
from nightshift.storage.files import scratch
from nightshift.storage.manifest import Parent
from nightshift.storage.partition import partition_of, publish
from nightshift.verdict import Verdict


def publish_examples(storage, day, train, verdict=Verdict.PASS):
    start = datetime(2026, 11, day, tzinfo=UTC)
    interval = Interval(start=start, end=start + timedelta(days=1))
    partition = partition_of(storage, "app", "examples", interval.key)
    manifest = publish(
        partition,
        scratch(partition),
        kind="examples",
        application="app",
        interval=interval,
        inputs={"day": day, "rows": train},
        facts={"splits": {"train": train, "traffic": 50}},
    )
    record_acceptance(partition, manifest.digest, verdict, [])
    return Parent(uri=str(partition), digest=manifest.digest)


def test_new_examples_are_the_accepted_days_after_the_champions_snapshot(tmp_path):
    storage = tmp_path.as_uri()
    days = {day: publish_examples(storage, day, train=day) for day in (1, 2, 3, 4, 5)}
    publish_examples(storage, 6, train=1_000, verdict=Verdict.FAIL)
    ledger = Ledger(storage, "app")
    assert history.new_examples(ledger, None) == 1 + 2 + 3 + 4 + 5
    snapshot = partition_of(storage, "app", "snapshots", "s")
    held = publish(
        snapshot, scratch(snapshot), kind="snapshot", application="app", inputs={}, parents=[days[2], days[3]]
    )
    model = partition_of(storage, "app", "models", "m")
    trained = publish(
        model,
        scratch(model),
        kind="model",
        application="app",
        inputs={},
        parents=[Parent(uri=str(snapshot), digest=held.digest)],
    )
    release = Release(
        number=1, model=str(model), model_digest=trained.digest, released=datetime(2026, 11, 6, tzinfo=UTC)
    )
    # The first day was left out on purpose, the sixth was refused.
    assert history.new_examples(ledger, release) == 4 + 5
    shutil.rmtree(UPath(snapshot).path)
    assert history.new_examples(ledger, release) == 1 + 2 + 3 + 4 + 5


def test_a_report_that_cannot_be_read_hides_no_other(tmp_path):
    storage = tmp_path.as_uri()
    damaged, whole = (publish_interval(storage, day, "FAIL") for day in (21, 22))
    (UPath(damaged.report) / "manifest.json").write_text("{}")
    assert history.monitored_intervals(Ledger(storage, "app")) == [whole]
