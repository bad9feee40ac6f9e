"""Documents grow old from when they were last read, not from when they last changed."""

from datetime import UTC, datetime, timedelta

import pytest
from upath import UPath

from nightshift.retrieval.newest import Newest, name_newest, pinned_index
from nightshift.retrieval.stale import why_stale
from nightshift.settings.application import Application
from nightshift.storage.files import scratch
from nightshift.storage.partition import partition_of, publish

NOW = datetime.now(UTC)
SOURCE = {"uri": "rows.csv", "columns": {"prompt": "text"}}


def app(**retrieval):
    documents = [{"uri": "faq/*.md"}]
    return Application(name="app", sources=[SOURCE], retrieval={"documents": documents, **retrieval})


def stale(storage, index, now):
    return why_stale("app", storage, index, 7, now)


@pytest.fixture
def storage(tmp_path):
    return tmp_path.as_uri()


@pytest.fixture
def read(storage):
    """A function that says when documents were last read, and returns what a version that is made then answers from."""

    def was_read(days_ago, documents="monday", **settings):
        folder = scratch(UPath(storage))
        (folder / "documents").write_text(documents)
        at = partition_of(storage, "app", "indexes", documents)
        made = publish(at, folder, kind="index", application="app", inputs={"documents": documents})
        name_newest(storage, "app", Newest(uri=str(at), digest=made.digest, read=NOW - timedelta(days=days_ago)))
        return pinned_index(app(**settings), storage)

    return was_read


def test_a_version_pins_the_newest_index_and_how_the_file_searches_it(read, storage):
    assert pinned_index(app(), storage) is None
    index = read(0, search="bm25", k=3)
    assert (index.search, index.k, UPath(index.uri).name) == ("bm25", 3, "monday")
    assert pinned_index(Application(name="app", sources=[SOURCE]), storage) is None


def test_unchanged_documents_are_as_old_as_when_they_were_last_read(read, storage):
    assert stale(storage, read(6.9), NOW) == ""
    assert stale(storage, read(8), NOW) == ("its documents were read 8.0 days ago, retrieval.stale_after is 7")


def test_documents_that_newer_ones_have_replaced_are_as_old_as_their_index(read, storage):
    index = read(0)
    read(0, "tuesday")
    assert stale(storage, index, NOW + timedelta(days=6)) == ""
    assert stale(storage, index, NOW + timedelta(days=8)).endswith("; a newer index is not in use yet")


def test_a_version_without_documents_is_told(storage):
    assert stale(storage, None, NOW).startswith("it answers without documents")
