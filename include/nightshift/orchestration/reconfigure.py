"""The task that detects changed parts in the application's file, and makes a version of them with the champion's weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowSkipException

from nightshift.orchestration.attempt import storage_uri
from nightshift.orchestration.ledger_task import LEDGER_TASK_ARGUMENTS, ledger_task, mlflow
from nightshift.registry.versions import CHAMPION
from nightshift.retrieval.newest import pinned_index
from nightshift.storage.application_version import Parts, open_version, publish_version
from nightshift.storage.manifest import require_manifest

if TYPE_CHECKING:
    from nightshift.registry.rest import Mlflow
    from nightshift.settings.application import Application

# Fact of a version: digest of the parts (without documents) that a search found it better than.
CHOSEN_OVER = "chosen_over"

log = logging.getLogger(__name__)


@task(**LEDGER_TASK_ARGUMENTS)
def changed(application: str, **context: Any) -> dict[str, Any]:
    """Compare the champion's parts with the application's file; publish a version if they differ.

    :return: `model` and `model_digest` of the version, its `base_model`, and `changes`, the names of the parts that differ.
    :raises AirflowSkipException: nothing differs, there is no champion, or a scheduled run finds a version judged before.
    """
    with ledger_task(application, context) as (app, _), mlflow() as server:
        champion = server.with_alias(app.name, CHAMPION)
        if champion is None:
            raise AirflowSkipException(
                "there is no champion yet; finetune trains the first one, with the file's prompt"
            )
        before = open_version(champion.model, champion.digest, app)
        parts = Parts.of(app, before.parts.weights, pinned_index(app, storage_uri()))
        facts: dict[str, Any] = {}
        if not context["dag_run"].triggering_user_name:
            over = require_manifest(before.partition, before.digest).facts.get(CHOSEN_OVER)
            if _is_chosen_over(server, app, before.parts, parts, over):
                log.info("a search found the champion better than the application's file; the champion keeps its parts")
                parts, facts = _with_index_of(before.parts, parts), {CHOSEN_OVER: parts.besides_documents}
        changes = parts.changed_from(before.parts)
        if not changes:
            raise AirflowSkipException(f"version {champion.version}, the champion, matches the application's file")
        partition, manifest = publish_version(app, storage_uri(), parts, **facts)
        refuse_judged(server, app, manifest.digest, context, f" ({', '.join(changes)} changed)")
        log.info("%s changed since version %s, the champion", ", ".join(changes), champion.version)
        return {
            "model": str(partition),
            "model_digest": manifest.digest,
            "base_model": before.base_model,
            "changes": changes,
        }


def _is_chosen_over(server: Mlflow, app: Application, champion: Parts, asked: Parts, over: str | None) -> bool:
    """Whether a search found the champion better than the parts in the file, which do not contain its result yet.

    This holds if these parts were judged on the champion's own documents, or on those of its version before newer documents.

    :param over: :attr:`Parts.besides_documents` of the parts that the champion was better than, from its manifest.
    """
    own, newest = champion.retrieval, asked.retrieval
    if own is None or newest is None:
        return False
    if over is not None:
        return over == asked.besides_documents
    of_file = _with_index_of(asked, champion)
    if own.digest == newest.digest or not of_file.changed_from(champion):
        return False
    _, manifest = publish_version(app, storage_uri(), of_file)
    return server.with_digest(app.name, manifest.digest) is not None


def _with_index_of(parts: Parts, newer: Parts) -> Parts:
    """Return `parts` with the index of `newer`."""
    assert parts.retrieval  # noqa: S101  (both were seen before)
    assert newer.retrieval  # noqa: S101
    index = {"uri": newer.retrieval.uri, "digest": newer.retrieval.digest}
    return parts.model_copy(update={"retrieval": parts.retrieval.model_copy(update=index)})


def refuse_judged(server: Mlflow, app: Application, digest: str, context: Mapping[str, Any], changes: str = "") -> None:
    """Refuse a version that was judged before, unless a person started the run.

    :param changes: what differs from the champion, after a space.
    :raises AirflowSkipException: it was judged before, in a run that nobody started.
    """
    known = server.with_digest(app.name, digest)
    if known and not context["dag_run"].triggering_user_name:
        raise AirflowSkipException(
            f"version {known.version} is that version{changes}, and was judged before; start this DAG by hand to have it "
            "judged anew"
        )
