"""A version of an application's model in the registry, with its aliases and tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

CANDIDATE, CHAMPION = "candidate", "champion"
MODEL_TAG = "nightshift.model"  # URI of the version's partition
WHOLE_TAG = "nightshift.whole"  # digest of the weights, on uploaded models that contain them
DIGEST_TAG = "nightshift.model_digest"  # digest of its manifest
EVALUATION_TAG = "nightshift.evaluation"  # URI of the evaluation that it was registered with
EVALUATION_DIGEST_TAG = "nightshift.evaluation_digest"
SEARCH_TAG = "nightshift.search"  # page of the search that found it, in MLflow
ORDER_TAG = "nightshift.order"  # number of the retraining that it was trained for
STATE_TAG = "nightshift.release"  # "held", "asked", "split", "stopped" or "released"
SPLIT_TAG = "nightshift.split"  # JSON of which units a challenger answers: key, unit and share (0: none)
PROMPT_TAG = (
    "nightshift.prompt_version"  # number of its prompt in the prompt registry; of a step, with `.<its name>` behind it
)
RELEASE_TAG = "nightshift.release_number"  # newest release after which the alias has moved to this version


def prompt_name(application: str) -> str:
    """Return the name of an application's prompt in the prompt registry."""
    return f"{application}.prompt"


@dataclass(frozen=True)
class Registered:
    """A version in the registry and the partition that it was made from.

    :param url: the address of its page in MLflow.
    """

    name: str
    version: str
    model: str
    digest: str
    tags: Mapping[str, str]
    url: str

    @classmethod
    def of(cls, server: str, name: str, version: str, tags: Mapping[str, str]) -> Self:
        """Return a version in the registry at the address `server`, from its tags."""
        url = f"{server}/#/models/{name}/versions/{version}"
        return cls(name, str(version), tags.get(MODEL_TAG, ""), tags.get(DIGEST_TAG, ""), tags, url)
