"""Anchors of the audit log in MLflow: one run a day, and in it one parameter for each anchor.

MLflow lets nobody change a parameter that is set. A run can be deleted, which MLflow itself remembers.
"""

from __future__ import annotations

from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from nightshift.audit.anchor import Anchor, anchor_in
from nightshift.errors import BadEnvironment
from nightshift.registry.tracking import TrackingRun, reachable

EXPERIMENT = "nightshift_audit"
LOG_TAG = "nightshift.audit.log"
EVERY, NEWEST = 100, 2  # runs that one answer holds; each brings up to 144 anchors


class AnchorRuns:
    """Anchors in the MLflow that `MLFLOW_TRACKING_URI` names.

    :raises BadEnvironment: MLflow cannot be reached (every method).
    """

    name = "MLflow"
    hourly = False
    keeps_all = True

    def every(self) -> tuple[list[Anchor], list[str]]:
        """Return all anchors, of whatever log and also those of deleted runs, and what is wrong with some."""
        found, wrong = [], []
        for run in _runs(EVERY):
            if run.info.lifecycle_stage == "deleted":
                wrong.append(f"the MLflow run {run.info.run_name!r} ({run.info.run_id}) with anchors was deleted")
            for key, value in run.data.params.items():
                if anchor := anchor_in(value, self.name):
                    found.append(anchor)
                else:
                    wrong.append(
                        f"parameter {key} of the MLflow run {run.info.run_id} was edited: it is no anchor any more"
                    )
        return found, wrong

    def newest(self, chain: str, storage: str) -> Anchor | None:
        """Return the newest anchor of a log, or of another that lay in the same storage."""
        for run in _runs(NEWEST):
            anchors = (anchor_in(value, self.name) for value in run.data.params.values())
            if mine := [anchor for anchor in anchors if anchor and anchor.is_of(chain, storage)]:
                return max(mine, key=lambda anchor: anchor.count)
        return None

    def keep(self, anchor: Anchor) -> None:
        """Add an anchor; where there is one of the same entry, that stays."""
        day = anchor.anchored.date().isoformat()
        try:
            run = TrackingRun(
                EXPERIMENT, key=f"audit-{anchor.chain[:16]}-{day}", name=f"audit {day}", tags={LOG_TAG: anchor.storage}
            )
            run.params({f"{anchor.count:09d}": anchor.model_dump_json()})
            run.finish()
        except MlflowException as error:
            raise BadEnvironment(f"MLflow refuses the anchor of the audit log: {error}") from error


def _runs(at_once: int) -> Iterator[Run]:
    """The runs with anchors, newest first."""
    client, token = MlflowClient(), None
    with reachable():
        experiment = client.get_experiment_by_name(EXPERIMENT)
        while experiment:
            page = client.search_runs(
                [experiment.experiment_id], "", ViewType.ALL, at_once, order_by=["start_time DESC"], page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return
