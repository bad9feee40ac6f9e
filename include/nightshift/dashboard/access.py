"""The user of a request, and the applications that they may see: those whose DAGs Airflow lets them read.

Airflow does not protect what a plugin mounts. A page without permission gives the same answer as one that does not exist.
"""

from __future__ import annotations

from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import get_user
from airflow.models.dag import DagModel
from airflow.utils.session import create_session
from fastapi import Depends, HTTPException
from sqlalchemy import select

from nightshift.access.permissions import ASKING_DAGS, DAGS
from nightshift.dashboard.application_files import ApplicationFile, known_application, known_applications
from nightshift.settings.applications import application_names


class Viewer:
    """The user of one request."""

    def __init__(self, user: Any) -> None:
        self.user = user
        self._auth = get_auth_manager()
        self._readable: set[str] = self._auth.get_authorized_dag_ids(user=user, method="GET")
        with create_session(scoped=False) as session:
            self._there = set(session.scalars(select(DagModel.dag_id)))

    def applications(self) -> list[ApplicationFile]:
        """Return the applications that the user may see, in order of name."""
        return [known for known in known_applications() if self.sees(known.name)]

    def sees(self, name: str) -> bool:
        """Whether the user may read every DAG of an application.

        The permission is also checked for DAGs that Airflow does not know, as those of an invalid file.
        """
        dags = {f"{name}_{kind}" for kind in DAGS}
        if known := dags & self._there:
            return known <= self._readable
        return self._may(f"{name}_{DAGS[0]}", None)

    def application(self, name: str) -> ApplicationFile:
        """Return an application that exists and that the user may see.

        :raises HTTPException: 404, with the same text in both cases.
        """
        if name in application_names() and self.sees(name):
            return known_application(name)
        raise HTTPException(404, f"There is no application “{name}”, or you may not see it.")

    def may_see_runs(self, name: str) -> bool:
        """Whether the user may read the runs of an application and their tasks."""
        dag = f"{name}_{DAGS[0]}"
        return self._may(dag, DagAccessEntity.RUN) and self._may(dag, DagAccessEntity.TASK_INSTANCE)

    def may_acknowledge(self, name: str) -> bool:
        """Whether the user may start the DAG that acknowledges alerts of an application."""
        return self._may(f"{name}_acknowledge", DagAccessEntity.RUN, "POST")

    def may_review(self, name: str) -> bool:
        """Whether the user may review answers of an application: approvers of its releases may."""
        return self._may(f"{name}_{ASKING_DAGS[0]}", DagAccessEntity.HITL_DETAIL, "PUT")

    def _may(self, dag_id: str, entity: DagAccessEntity | None, method: ResourceMethod = "GET") -> bool:
        team = DagModel.get_team_name(dag_id) if dag_id in self._there else None
        details = DagDetails(id=dag_id, team_name=team)
        return bool(self._auth.is_authorized_dag(method=method, access_entity=entity, details=details, user=self.user))


def viewer(user: Annotated[Any, Depends(get_user)]) -> Viewer:
    """Return the user of the request. Without a login Airflow's dependency answers 401."""
    return Viewer(user)


Asking = Annotated[Viewer, Depends(viewer)]
