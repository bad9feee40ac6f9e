"""A release that is killed after any of its writes, to storage or to MLflow, ends as if it had not been."""

from datetime import UTC, datetime

import pytest
from mlflow import MlflowClient
from release_tasks import Killer, registered
from upath import UPath

from nightshift.ledger.store import Ledger

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shown")]
MOST_WRITES = 60


def start_over(app):
    """As before the first release: no ledger, and no alias."""
    ledger, client = UPath(app.storage).joinpath(app.name, "ledger"), MlflowClient()
    if ledger.exists():
        ledger.fs.rm(ledger.path, recursive=True)
    app.ledger = Ledger(app.storage, app.name)  # the one before remembers
    client.delete_registered_model_alias(app.name, "champion")
    for tag in ("release", "release_number", "approval"):
        if tag in app.tags("1"):
            client.delete_model_version_tag(app.name, "1", f"nightshift.{tag}")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("required", ["never", "always"])
def test_killed_at_any_write_it_goes_on(judged, progress, monkeypatch, required):
    app = registered(judged(), progress, required)
    killer = Killer(monkeypatch)
    for number in range(1, MOST_WRITES):
        killer.left = number
        decision, kills = None, 0
        while True:
            try:
                decision = decision or app.ask()
                answer = {"answer": "approved", "by": "alice", "answered": datetime.now(UTC)} if decision.ask else {}
                moved = app.promote(decision, **answer)
                break
            except KeyboardInterrupt:
                kills += 1
        assert (moved["version"], app.champion, app.released) == ("1", "1", ["1"]), f"killed at write {number}"
        tags = app.tags("1")
        assert (tags["release"], tags["release_number"]) == ("released", "1")
        released = [record.person for record in app.gate_records() if record.released]
        assert released == ([None] if required == "never" else ["alice"])
        if required == "always":
            assert tags["approval"] == "approved"
            assert [one.answer for one in app.ledger.answers(app.ledger.requests()).values()].count("approved") == 1
        if not kills:
            break
        start_over(app)
    assert not kills, "it has more writes than the test expects"
    assert number > 6
