"""In a folder and in a bucket: of a removed index nothing is left, and others stay as they are."""

from datetime import UTC, datetime, timedelta

import pytest
from upath import UPath

from nightshift.retrieval.newest import INDEXES, Newest, mark_used, name_newest
from nightshift.retrieval.unused import remove_unused
from nightshift.storage.files import names_in, scratch
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import partition_of, publish


@pytest.mark.parametrize("storage", ["file", "s3"], indirect=True)
def test_only_what_nobody_used_since_is_removed_and_whole(storage):
    places = [partition_of(storage, "app", INDEXES, name) for name in ("newest", "old", "used")]
    for place in places:
        (folder := scratch(UPath(storage))).joinpath("chunks").write_text(place.name)
        made = publish(place, folder, kind="index", application="app", inputs={"name": place.name})
    name_newest(
        storage, "app", Newest(uri=str(places[0]), digest=require_manifest(places[0]).digest, read=made.created)
    )
    since = datetime.now(UTC)
    mark_used(places[2])
    assert remove_unused(storage, "app", since, ()) == ["old"]
    assert names_in(places[1]) == []
    assert names_in(places[0].parent) == ["newest", "newest.json", "used"]
    assert require_manifest(places[2]) == made
    assert remove_unused(storage, "app", since + timedelta(hours=1), ()) == ["used"]
