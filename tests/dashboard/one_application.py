"""Airflow's simple auth manager with rules per DAG, which it lacks: `newcomer` may read the DAGs of `seen` alone."""

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager


class OneApplicationAuthManager(SimpleAuthManager):
    """As a role of FAB that names single DAGs, and not their runs."""

    def is_authorized_dag(self, *, method, user, access_entity=None, details=None):
        allowed = super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)
        if user.username != "newcomer":
            return allowed
        return allowed and access_entity is not DagAccessEntity.RUN and bool(details and details.id.startswith("seen_"))

    def filter_authorized_dag_ids(self, *, dag_ids, user, method="GET", team_name=None):
        found = super().filter_authorized_dag_ids(dag_ids=dag_ids, user=user, method=method, team_name=team_name)
        return {dag for dag in found if user.username != "newcomer" or dag.startswith("seen_")}
