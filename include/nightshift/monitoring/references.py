"""Where a model's reference lies, and what an interval is compared with when it is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.interactions import SCORES_VERSION
from nightshift.errors import BadInput
from nightshift.monitoring.measured import PROFILE_VERSION, SAMPLE
from nightshift.monitoring.own_metrics import categorical_in
from nightshift.monitoring.profiles import PROFILE, Profile, read_profile
from nightshift.monitoring.topics import TOPIC_NAMES, TOPIC_VECTORS, Topics, read_topics
from nightshift.storage.manifest import Manifest, require_manifest
from nightshift.storage.partition import fetch, partition_of

VERSION = 1  # of what a reference holds
# Raising any of these versions makes references again: numbers of different versions are not compared.
VERSIONS = {"version": VERSION, "profile": PROFILE_VERSION, "scores": SCORES_VERSION}


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


def require_reference(storage: str, application: str, model_digest: str) -> Manifest:
    """Return the manifest of a model's reference.

    :raises BadInput: it is gone or damaged, or its profile was made by an older version of the scorers or of what is
        measured.
    """
    partition = reference_partition(storage, application, model_digest)
    manifest = require_manifest(partition)
    made_by = {name: manifest.inputs.get(name) for name in VERSIONS}
    if made_by != VERSIONS:
        older = ", ".join(
            f"{name} {made_by[name]}, not {VERSIONS[name]}" for name in VERSIONS if made_by[name] != VERSIONS[name]
        )
        raise BadInput(f"{partition}: this reference was made by an older version of Nightshift ({older})")
    return manifest


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
        read_profile(fetch(partition, manifest, PROFILE, folder), categorical_in(manifest)),
        read_topics(vectors, names),
        pq.read_table(fetch(partition, manifest, SAMPLE, folder)),
    )
