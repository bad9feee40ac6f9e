"""Objects that the janitor found without a task at earlier looks: it deletes only what two looks found."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime

from pydantic import AwareDatetime, TypeAdapter, ValidationError
from upath import UPath

from nightshift.orchestration.kubernetes.labels import airflow_id
from nightshift.storage.files import replace

FOUND = TypeAdapter(dict[str, AwareDatetime])

log = logging.getLogger(__name__)


class Suspects:
    """When each active object was first found without a task, by its uid in the cluster, for one compute profile.

    Kept in storage, since a mark on the pod itself would need the right to change pods.

    :param storage: URI of the storage.
    :param profile: name of the compute profile whose namespace is looked at.
    """

    def __init__(self, storage: str, profile: str) -> None:
        self._file = UPath(storage).joinpath("janitor", airflow_id(), f"{profile}.json")

    def read(self) -> dict[str, datetime]:
        """Return the suspects of the last look; none if there was no look, or its file is damaged."""
        try:
            return FOUND.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return {}
        except ValidationError as error:
            log.warning("%s is damaged, starting without suspects: %s", self._file, error)
            return {}

    def keep(self, found: Mapping[str, datetime]) -> None:
        """Record the suspects of this look."""
        replace(self._file, FOUND.dump_json(dict(found)))
