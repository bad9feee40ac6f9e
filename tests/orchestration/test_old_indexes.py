"""Indexes that no version can answer from any more are removed, and none that one can."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from fsspec.implementations.local import LocalFileSystem
from retraining_tasks import context
from upath import UPath

from nightshift.errors import BadInput
from nightshift.ledger.records import Release, Request, Split, SplitEnd
from nightshift.orchestration import old_indexes, rollback
from nightshift.registry.versions import Registered
from nightshift.retrieval.index import CHUNKS
from nightshift.retrieval.newest import INDEXES, Newest, mark_used, name_newest
from nightshift.settings.application import Application
from nightshift.settings.pinned_index import PinnedIndex
from nightshift.settings.split import Split as SplitSettings
from nightshift.storage.application_version import Parts, publish_version
from nightshift.storage.files import names_in, scratch
from nightshift.storage.manifest import Parent, read_manifest
from nightshift.storage.partition import fetch, partition_of, publish
from nightshift.verdict import Verdict

APP = Application(name="app", sources=[{"uri": "rows.csv", "columns": {"prompt": "text", "answer": "answer"}}])
NOW = datetime.now(UTC)


class Registry:
    """Versions and aliases, as MLflow has them; each version answers from an index of its own, which nobody looked at lately."""

    def __init__(self, storage):
        self.storage, self.versions, self.aliases, self.indexes = storage, {}, {}, {}

    def index(self, name, days):
        folder = scratch(UPath(self.storage))
        (folder / CHUNKS).write_text(name)
        at = partition_of(self.storage, "app", INDEXES, f"index-of-{name}")
        manifest = publish(at, folder, kind="index", application="app", inputs={"documents": name})
        (at / "used").write_text((NOW - timedelta(days=days)).isoformat())
        self.indexes[name] = at.name
        return PinnedIndex(uri=str(at), digest=manifest.digest, search="hybrid", k=5)

    def register(self, version, *aliases):
        parts = Parts.of(APP, Parent(uri="memory://weights", digest=version), self.index(version, 120))
        at, manifest = publish_version(APP, self.storage, parts)
        self.versions[version] = Registered("app", version, str(at), manifest.digest, {}, "")
        self.aliases |= dict.fromkeys(aliases, version)
        return self.versions[version]

    def version_of(self, _name, version):
        return self.versions.get(version)

    def with_alias(self, _name, alias):
        return self.versions.get(self.aliases.get(alias))

    @property
    def there(self):
        names = names_in(partition_of(self.storage, "app", INDEXES))
        return {version for version, name in self.indexes.items() if name in names}


@pytest.fixture
def registry(storage, tmp_path, monkeypatch):
    registry = Registry(storage)
    monkeypatch.setattr(old_indexes, "mlflow", lambda: nullcontext(registry))
    with (tmp_path / "apps" / "app.yaml").open("a") as file:
        file.write("retrieval: {documents: [{uri: faq/*.md}]}\n")
    return registry


def release(registry, ledger, *days):
    """Versions 1, 2, … became the champion so many days ago; the last one is."""
    for number, ago in enumerate(days, 1):
        of = registry.register(str(number), "champion")
        released = NOW - timedelta(days=ago)
        about = {"number": number, "ahead": True, "model_digest": of.digest, "model": of.model}
        ledger.create(Release(**about, version=of.version, released=released))


def name_a_newest(registry):
    index = registry.index("newest", 0)
    name_newest(registry.storage, "app", Newest(uri=index.uri, digest=index.digest, read=NOW))


def split(registry, number, version, champion, after):
    challenger = registry.versions[version]
    return Split(
        number=number, decision=f"d{number}", after=after, settings=SplitSettings(), key="k", version=version,
        model_digest=challenger.digest, champion=champion, champion_digest=registry.versions[champion].digest, started=NOW,
    )  # fmt: skip


def remove():
    return old_indexes.remove_old.function("app", **context("run"))["removed"]


def test_only_indexes_that_nothing_can_answer_from_are_removed(registry, ledger):
    release(registry, ledger, 200, 150, 95, 5)
    registry.register("5", "candidate")
    registry.register("6")
    registry.register("7")
    registry.index("loose", 91)
    registry.index("tried", 10)
    champion = registry.versions["4"]
    ledger.create(split(registry, 1, "6", "4", 4))
    ledger.create(
        Request(
            id="20261101-7", version="7", model_digest="m", evaluation_digest="e", champion_digest=champion.digest,
            verdict=Verdict.PASS, subject="s", dag_id="d", run_id="r", task_id="t", asked=NOW, until=NOW + timedelta(days=1),
        )
    )  # fmt: skip
    for name in ("before", "newest"):
        index = registry.index(name, 120)
        name_newest(registry.storage, "app", Newest(uri=index.uri, digest=index.digest, read=NOW))
    assert sorted(remove()) == sorted(registry.indexes[name] for name in ("1", "2", "loose"))
    assert registry.there == {"3", "4", "5", "6", "7", "tried", "before", "newest"}
    assert remove() == []


def test_the_champion_before_stays_however_long_ago_it_was_and_earlier_ones_cannot_come_back(registry, ledger):
    release(registry, ledger, 900, 800, 700)
    name_a_newest(registry)
    assert remove() == [registry.indexes["1"]]
    champion = registry.with_alias("app", "champion")
    assert rollback.earlier_champion("app", ledger, registry, champion).version == "2"
    with pytest.raises(BadInput, match="the document index of version 1 was removed"):
        rollback.earlier_champion("app", ledger, registry, champion, 1)


def test_a_version_that_is_about_to_be_released_keeps_its_index(registry, ledger):
    release(registry, ledger, 900, 800, 700)
    name_a_newest(registry)
    rollback.earlier_champion("app", ledger, registry, registry.with_alias("app", "champion"), 1)
    assert remove() == []


def test_nothing_is_removed_where_the_newest_is_not_known_or_all_are_kept(registry, ledger, tmp_path):
    release(registry, ledger, 900, 800, 700)
    assert remove() == []
    file = tmp_path / "apps" / "app.yaml"
    file.write_text(file.read_text().replace("[{uri: faq/*.md}]", "[{uri: faq/*.md}], keep_days: null"))
    with pytest.raises(AirflowSkipException, match="all indexes are kept"):
        remove()


def test_versions_of_a_split_that_ended_lately_keep_their_indexes_for_intervals_that_are_run_again(registry, ledger):
    release(registry, ledger, 900, 800, 700)
    for number, (version, days) in enumerate({"4": 91, "5": 89}.items(), 1):
        registry.register(version)
        ledger.create(split(registry, number, version, "3", 3))
        ended = NOW - timedelta(days=days)
        ledger.create(SplitEnd(number=number, result="stopped", explanation="worse", ended=ended))
    name_a_newest(registry)
    assert sorted(remove()) == sorted(registry.indexes[name] for name in ("1", "4"))


def test_a_release_that_names_no_version_is_not_the_one_before_todays(registry, ledger):
    release(registry, ledger, 900, 800)
    about = {"ahead": True, "model_digest": "unnamed", "model": "memory://gone"}
    ledger.create(Release(number=3, **about, released=NOW - timedelta(days=750)))
    champion = registry.with_alias("app", "champion")
    about = {"ahead": True, "model_digest": champion.digest, "model": champion.model}
    ledger.create(Release(number=4, **about, version="2", released=NOW - timedelta(days=700)))
    name_a_newest(registry)
    assert remove() == []
    assert rollback.earlier_champion("app", ledger, registry, champion).version == "1"


def test_an_index_that_is_used_while_it_is_removed_stays(registry, ledger, monkeypatch):
    release(registry, ledger, 900, 800, 700)
    name_a_newest(registry)
    at = partition_of(registry.storage, "app", INDEXES, registry.indexes["1"])
    before = read_manifest(at)

    def use_it(self, path, recursive=False, real=LocalFileSystem.rm):
        real(self, path, recursive=recursive)
        mark_used(at)

    monkeypatch.setattr(LocalFileSystem, "rm", use_it)
    assert remove() == []
    assert read_manifest(at) == before
    assert fetch(at, before, CHUNKS, UPath(registry.storage)).read_text() == "1"


def test_a_removal_that_was_killed_is_finished_by_the_next_one(registry, ledger, monkeypatch):
    release(registry, ledger, 900, 800, 700)
    name_a_newest(registry)
    at = partition_of(registry.storage, "app", INDEXES, registry.indexes["1"])
    manifest = read_manifest(at).model_copy(update={"created": NOW - timedelta(days=120)})
    (at / "manifest.json").write_text(manifest.model_dump_json())
    (at / "used").unlink()

    def killed(self, path, recursive=False, real=LocalFileSystem.rm):
        if recursive:
            raise KeyboardInterrupt
        real(self, path)

    with monkeypatch.context() as patched:
        patched.setattr(LocalFileSystem, "rm", killed)
        with pytest.raises(KeyboardInterrupt):
            remove()
    assert "1" in registry.there
    assert read_manifest(at) is None
    assert remove() == [registry.indexes["1"]]
    assert "1" not in registry.there
