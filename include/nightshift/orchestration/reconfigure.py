"""The task that notices a changed prompt, and makes a version of it around the champion's weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowSkipException

from nightshift.orchestration.attempt import storage_uri
from nightshift.orchestration.deciding import OUTLASTING, deciding, mlflow
from nightshift.registry.versions import CHAMPION
from nightshift.retrieval.newest import pinned_index
from nightshift.storage.application_version import Parts, open_version, publish_version

if TYPE_CHECKING:
    from nightshift.registry.rest import Mlflow
    from nightshift.settings.application import Application

log = logging.getLogger(__name__)


@task(**OUTLASTING)
def changed(application: str, **context: Any) -> dict[str, Any]:
    """Compare the champion's parts with what the application's file asks for; publish the version where they differ.

    :return: `model` and `model_digest` of the version, its `base_model`, and `changes`, the names of the parts that differ.
    :raises AirflowSkipException: nothing differs, there is no champion, or the version was judged before and no person asks.
    """
    with deciding(application, context) as (app, _), mlflow() as server:
        champion = server.with_alias(app.name, CHAMPION)
        if champion is None:
            raise AirflowSkipException(
                "there is no champion yet; finetune trains the first one, with the file's prompt"
            )
        before = open_version(champion.model, champion.digest, app)
        parts = Parts.of(app, before.parts.weights, pinned_index(app, storage_uri()))
        if not context["dag_run"].triggering_user_name:
            parts = _kept(server, app, before.parts, parts)
        changes = parts.changed_from(before.parts)
        if not changes:
            raise AirflowSkipException(f"version {champion.version}, the champion, is as the application's file asks")
        partition, manifest = publish_version(app, storage_uri(), parts)
        refuse_judged(server, app, manifest.digest, context, f" ({', '.join(changes)} changed)")
        log.info("%s changed since version %s, the champion", ", ".join(changes), champion.version)
        return {
            "model": str(partition),
            "model_digest": manifest.digest,
            "base_model": before.base_model,
            "changes": changes,
        }


def _kept(server: Mlflow, app: Application, champion: Parts, asked: Parts) -> Parts:
    """Return the parts that are asked for; those of the champion on newer documents, where it was chosen over the others.

    It was, where these were judged on the champion's own documents: then a search found better ones, and nobody has written
    them into the application's file yet.
    """
    own, newest = champion.retrieval, asked.retrieval
    if own is None or newest is None or own.digest == newest.digest:
        return asked
    of_file = asked.model_copy(update={"retrieval": newest.model_copy(update={"uri": own.uri, "digest": own.digest})})
    if not of_file.changed_from(champion):
        return asked
    _, manifest = publish_version(app, storage_uri(), of_file)
    if server.with_digest(app.name, manifest.digest) is None:
        return asked
    log.info("the champion was chosen over what the application's file asks for; only its documents are newer")
    return champion.model_copy(
        update={"retrieval": own.model_copy(update={"uri": newest.uri, "digest": newest.digest})}
    )


def refuse_judged(server: Mlflow, app: Application, digest: str, context: Mapping[str, Any], changes: str = "") -> None:
    """Refuse a version that was judged before, unless a person asks.

    :param changes: what differs from the champion, behind a space.
    :raises AirflowSkipException: it was, and nobody does.
    """
    known = server.with_digest(app.name, digest)
    if known and not context["dag_run"].triggering_user_name:
        raise AirflowSkipException(
            f"version {known.version} is that version{changes}, and was judged before; start this DAG by hand to have it "
            "judged anew"
        )
