"""What an earlier version left in storage is read by this one, and gone on from; the archives are told of in tests/states."""

from datetime import timedelta

import pytest
from stored_states import BUCKET, each_state, unpack
from upath import UPath

from nightshift.audit.chain import Chain
from nightshift.audit.verify import verify
from nightshift.dashboard import overview
from nightshift.dashboard.application import gather
from nightshift.dashboard.application_files import known_application
from nightshift.dashboard.panels import Panel
from nightshift.dashboard.state import Word
from nightshift.data.snapshot import published_examples, published_snapshots
from nightshift.ledger import approval, history, orders
from nightshift.ledger.gate_records import record_approval
from nightshift.ledger.records import Answer, Outcome
from nightshift.ledger.releases import decided_next
from nightshift.ledger.store import Ledger
from nightshift.monitoring.published_intervals import published_interactions
from nightshift.monitoring.references import read_reference, reference_partition
from nightshift.settings.applications import load_application
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import fetch, find

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", **each_state)
def state(request, tmp_path_factory, bucket):
    state = unpack(request.param, tmp_path_factory.mktemp("state"))
    state.give_back()
    return state


@pytest.fixture
def storage(state, monkeypatch):
    """The URI of the storage, with the ledger as it was left: it is all that the tests write to."""
    state.give_back("storage/helper/ledger/")
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(state.folder))
    return state.storage


@pytest.fixture
def ledger(storage):
    return Ledger(storage, "helper")


def test_what_was_decided_ordered_and_released_is_read_with_its_reasons(storage, ledger):
    quiet, tripped = ledger.decisions()
    assert (quiet.code, tripped.code, tripped.by) == ("quiet", "tripped", "policy")
    order = orders.open_order(ledger)
    assert (order.number, order.decision, ledger.index().claims) == (1, tripped, {})
    assert tripped.reason.startswith("1 of the newest 1 nights with a verdict failed")
    assert "2026-11-05 in prompt_tokens" in tripped.reason
    assert tripped.numbers["new_examples"] > 0
    (release,) = ledger.releases()
    assert (release.version, release.model_digest) == ("1", tripped.model_digest)
    assert [(one.version, one.released, one.person) for one in Ledger(storage, "helper").gate_records()] == [
        ("1", False, None), ("1", True, "approver"), ("2", False, None),
    ]  # fmt: skip


def test_a_claim_of_the_open_order_holds_and_its_close_is_kept(storage, ledger):
    order = orders.open_order(ledger)
    now = order.created + timedelta(hours=1)
    assert orders.claim(ledger, "helper_finetune", "after", now) == (order, order.decision.reason)
    taken, told = orders.claim(ledger, "helper_finetune", "another", now)
    assert (taken, told) == (None, "retraining 1 is the work of after")
    ended = Outcome(number=1, result="registered", explanation="version 3", run_id="after", hours=0.1, ended=now)
    assert orders.close(ledger, ended) == ended
    assert (orders.open_order(ledger), ledger.index().outcomes) == (None, {1: ended})
    # The night that led to it, asked about again, leads to the decision of then and to no second order.
    night = history.monitored_intervals(Ledger(storage, "helper"))[-1]
    decided = orders.evaluate(load_application("helper"), Ledger(storage, "helper"), night, now)
    assert (decided, list(ledger.orders())) == (order.decision, [1])


def test_the_request_that_waits_can_be_approved_and_the_earlier_answer_stands(storage, ledger):
    first, second = ledger.requests().values()
    answers = ledger.answers(ledger.requests())
    assert list(answers) == [first.id]
    assert answers[first.id].answer == "approved"
    assert "approver approved it on" in approval.sentence(answers[first.id])
    assert (second.version, second.verdict, second.approvers) == ("2", "PASS", ["approver"])
    assert second.subject == "helper: release version 2 in place of version 1? The gate says PASS"
    about = (second.model_digest, second.evaluation_digest, second.champion_digest)
    assert approval.earlier_answer(ledger, *about) is None
    given = Answer(id=second.id, answer="approved", by="approver", answered=second.asked + timedelta(hours=1))
    assert approval.keep_answer(ledger, given) == given == approval.earlier_answer(ledger, *about)
    released = record_approval(ledger, second, given)
    assert decided_next(ledger, second.model_digest, second.champion_digest) == released


def test_the_policy_sees_the_nights_the_release_and_what_is_new_since(storage, ledger):
    nights = history.monitored_intervals(Ledger(storage, "helper"))
    assert [(one.monitor, one.interval, one.verdict) for one in nights] == [
        ("drift", "2026-11-04", "PASS"), ("drift", "2026-11-05", "FAIL"),
    ]  # fmt: skip
    tripped = ledger.decisions()[-1]
    assert orders.decision_id(nights[-1]) == tripped.id
    assert history.published(tripped.reports[0]) == nights[-1]
    assert history.newest_about_champion(Ledger(storage, "helper"), "drift") == nights[-1:]
    known = history.history(Ledger(storage, "helper"), nights[-1], tripped.decided)
    assert (known.champion, known.nights, known.released) == (
        tripped.model_digest, nights, ledger.releases()[-1].released,
    )  # fmt: skip
    assert known.new_examples == tripped.numbers["new_examples"]


def test_every_partition_holds_what_its_manifest_says_and_is_found_by_its_inputs(storage, state, tmp_path):
    kinds = set()
    for number, path in enumerate(sorted((state.folder / "bucket").rglob("manifest.json"))):
        partition = UPath(f"s3://{BUCKET}/{path.parent.relative_to(state.folder / 'bucket')}")
        manifest = require_manifest(partition)
        kinds.add(manifest.kind)
        for file in manifest.files:
            fetch(partition, manifest, file.name, tmp_path / str(number))
        assert find(partition, manifest.inputs) == manifest
        for parent in manifest.parents:
            require_manifest(UPath(parent.uri), parent.digest)
    assert kinds >= {"examples", "snapshot", "model", "evaluation", "reference", "interactions", "profile", "drift"}


def test_days_training_sets_nights_and_references_are_found(storage, ledger, tmp_path):
    days = published_examples(storage, "helper")
    assert [one.key for one in days] == ["2026-11-02", "2026-11-03", "2026-11-04", "2026-11-05"]
    assert [one.refused for one in days] == [None] * 4
    assert [one.manifest.counts["quarantined"] for one in days] == [0, 2, 0, 0]
    assert len(published_snapshots(storage, "helper")) == 2
    nights, broken = published_interactions(storage, "helper", 60)
    assert ([night.key for night in nights], broken) == (["2026-11-04", "2026-11-05"], {})
    champion, _ = (request.model_digest for request in ledger.requests().values())
    assert {night.model_digest for night in nights} == {champion}
    at = reference_partition(storage, "helper", champion)
    reference = read_reference(at, require_manifest(at).digest, tmp_path)
    assert reference.profile.rows() > 0
    assert reference.sample.num_rows > 0


def test_the_page_of_the_application_tells_its_story(storage):
    page = gather(load_application("helper"), storage, may_see_runs=False)
    panels = {name: part for name, part in vars(page).items() if isinstance(part, Panel) and name != "training"}
    assert {name: part.trouble for name, part in panels.items() if part.trouble} == {}
    models = page.models.shown
    assert (models.champion.version, models.candidate.version) == ("1", "2")
    assert models.champion.score(page.app).value == 0.0
    assert [night.verdict for night in page.trend.shown.judged["drift"]] == ["PASS", "FAIL"]
    assert [night.interval for night in page.trend.shown.answered] == ["2026-11-04", "2026-11-05"]
    assert page.trend.shown.unreadable == []
    assert next(iter(page.trend.shown.effects.values())).name
    (retraining,) = page.decisions.shown.retrainings
    assert (retraining.order.number, retraining.doing) == (1, "waits for finetune")
    assert (page.state.word, page.state.reason) == (Word.RETRAINING, "retraining 1 waits for finetune")
    told = [entry.what for entry in page.decisions.shown.story.entries]
    assert told.index("order 1") < told.index("approval of version 2 asked") < told.index("release of version 1")
    assert "approval_waits" in {alert.kind for alert in page.open_alerts.shown.open}
    assert [one.kind for one in page.fresh.shown if one.stale or not one.name] == ["bias"]
    row = overview.row(known_application("helper"), storage, None, [])
    assert (row.champion.version, row.state) == ("1", page.state)


def test_the_audit_log_is_whole(storage):
    found = verify(Chain(storage), [])
    assert found.problems == []
    assert found.count > 0
