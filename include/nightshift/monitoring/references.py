"""Where a model's reference lies, and what a night is compared with when it is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from nightshift.monitoring.measured import SAMPLE
from nightshift.monitoring.profiles import PROFILE, Profile, read_profile
from nightshift.monitoring.topics import TOPIC_NAMES, TOPIC_VECTORS, Topics, read_topics
from nightshift.storage.partition import Manifest, fetch, partition_of, require_manifest


@dataclass(frozen=True)
class Reference:
    """The profile of what a model was trained and judged on, its topics, and a sample of its rows."""

    partition: UPath
    manifest: Manifest
    profile: Profile
    topics: Topics
    sample: pa.Table


def reference_partition(storage: str, application: str, model_digest: str) -> UPath:
    """Return the address of a model's reference."""
    return partition_of(storage, application, "references", model_digest[:16])


def read_reference(partition: UPath, digest: str, folder: Path) -> Reference:
    """Return a published reference.

    :param folder: where files of other storage are copied to.
    :raises BadInput: it is gone or damaged.
    """
    manifest = require_manifest(partition, digest)
    vectors, names = (fetch(partition, manifest, name, folder) for name in (TOPIC_VECTORS, TOPIC_NAMES))
    return Reference(
        partition,
        manifest,
        read_profile(fetch(partition, manifest, PROFILE, folder)),
        read_topics(vectors, names),
        pq.read_table(fetch(partition, manifest, SAMPLE, folder)),
    )
