"""The tasks of a release, called as Airflow calls them; what the tests of them share."""

from datetime import UTC, datetime, timedelta

import yaml
from airflow.sdk.exceptions import AirflowSkipException
from retraining_tasks import context

from nightshift.jobs import register
from nightshift.ledger import store
from nightshift.ledger.approval import keep_answer, keep_request
from nightshift.ledger.records import Answer, Request
from nightshift.ledger.store import Ledger
from nightshift.orchestration import approval, promote, release
from nightshift.orchestration.contest import ReleaseDecision
from nightshift.registry import models
from nightshift.registry.rest import Mlflow
from nightshift.registry.versions import CHAMPION
from nightshift.settings.applications import applications_folder
from nightshift.settings.people import Approval

NOW = datetime(2026, 11, 28, 10, 0, tzinfo=UTC)
FORM = {"version": None, "reason": None, "ask": False}


class Releases:
    """An application with its file, and the runs of its release DAG."""

    def __init__(self, spec, required="never"):
        self.name, self.storage, self.application = spec.application.name, spec.storage, spec.application
        self.ledger = Ledger(self.storage, self.name)
        self.require(required)

    def require(self, required):
        """Write into the application's file when people are asked."""
        asked = Approval(required=required, approvers=["alice"] if required != "never" else [])
        fields = self.application.model_copy(update={"approval": asked}).model_dump(mode="json", exclude_unset=True)
        fields.pop("name")
        (applications_folder() / f"{self.name}.yaml").write_text(yaml.safe_dump(fields))

    def decide(self, by=None, run_id="run", **form):
        """The task `release`."""
        given = context(run_id, user=by, params={**FORM, **form})
        return ReleaseDecision(**release.release.function(self.name, **given))

    def ask(self, **form):
        """The task `release`, and what the task `approve` keeps where it asks."""
        decision = self.decide(**form)
        if decision.ask:
            told = decision.model_dump(exclude={"reasons", "released", "ask", "request", "body"})
            place = {"dag_id": "app_release", "run_id": "run", "task_id": "approve"}
            times = {"asked": NOW, "until": NOW + timedelta(hours=24)}
            request = Request(id=decision.request, approvers=["alice"], **told, **place, **times)
            approval._refuse_stale(self.ledger, approval._refuse_foreign(self.ledger, decision, request))
            keep_request(self.ledger, request)
        return decision

    def promote(self, decision, answer=None, **given):
        """The task `promote`, after the task `approve` kept an answer where there is one; of one that is skipped, its result."""
        if answer:
            keep_answer(self.ledger, Answer(id=decision.request, answer=answer, **given))
        run = context("run", params=FORM)
        try:
            return promote.promote.function(self.name, decision.model_dump(mode="json"), **run)
        except AirflowSkipException:
            return run["pushed"]["return_value"]

    def run(self, **form):
        """Both tasks: what was decided, and what came of it."""
        decision = self.decide(**form)
        return decision, self.promote(decision)

    @property
    def champion(self):
        found = models.with_alias(self.name, CHAMPION)
        return found.version if found else None

    @property
    def released(self):
        """The versions that became champion, one after the other."""
        return [one.version for one in self.ledger.releases()]

    def gate_records(self):
        return self.ledger.gate_records()

    def tags(self, version):
        """Our tags of a version."""
        found = models.version_of(self.name, version).tags
        return {key.removeprefix("nightshift."): value for key, value in found.items()}


def registered(spec, progress, required="never"):
    """Register a candidate, and return the releases of its application."""
    register.run(spec, progress)
    return Releases(spec, required)


class Killer:
    """Kills after the n-th write, which is also before the next one: what is written is all that is left of either."""

    def __init__(self, monkeypatch):
        self.left = 0
        self._around(monkeypatch, Mlflow, "_post")
        self._around(monkeypatch, store, "create")
        self._around(monkeypatch, store, "announce")

    def _around(self, monkeypatch, place, name):
        write = getattr(place, name)

        def written(*given):
            self.left -= 1
            done = write(*given)
            if self.left == 0:
                raise KeyboardInterrupt
            return done

        monkeypatch.setattr(place, name, written)
