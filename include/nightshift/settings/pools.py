"""The Airflow pools in which an application's tasks wait for a slot."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nightshift.settings.fields import Model
from nightshift.settings.job_names import IN_TRAINING

# Tasks of a second, which only tell somebody of a result: they never wait for a job. All applications share it.
LIGHT_POOL = "nightshift_light"

Pool = Annotated[str, Field(pattern=r"^[\w.-]+$", max_length=250)]


class Pools(Model):
    """Which pools of Airflow an application's jobs use. A pool that Airflow does not have keeps its tasks waiting."""

    jobs: Pool = Field("nightshift_jobs", description="pool of the jobs that read and judge data")
    training: Pool = Field("nightshift_training", description="pool of the jobs that train a model or judge it")

    def of(self, job: str) -> str:
        """Return the pool of a job."""
        return self.training if job in IN_TRAINING else self.jobs
