"""Newer documents do not undo what a search found, which nobody has written into the application's file yet."""

import pytest
from indexed import pinned

from nightshift.orchestration import reconfigure
from nightshift.settings.application import Application
from nightshift.settings.prompt import Prompt
from nightshift.storage.application_version import Parts, publish_version
from nightshift.storage.manifest import Parent

APP = Application(name="app", sources=[{"uri": "rows.csv", "columns": {"prompt": "text", "answer": "answer"}}])
WEIGHTS = Parent(uri="memory://weights", digest="w")


class Registry:
    """Knows the versions that were judged."""

    def __init__(self, storage):
        self.storage, self.digests = storage, set()

    def judge(self, parts):
        self.digests.add(publish_version(APP, self.storage, parts)[1].digest)

    def with_digest(self, _application, digest):
        return digest if digest in self.digests else None


@pytest.fixture
def registry(tmp_path, monkeypatch):
    monkeypatch.setattr(reconfigure, "storage_uri", tmp_path.as_uri)
    return Registry(tmp_path.as_uri())


def indexed(registry, euros, **fields):
    index = pinned([("fees", "Fees", f"A card costs {euros} euros.")], registry.storage)
    return index.model_copy(update=fields)


def test_a_champion_that_was_chosen_over_the_files_settings_is_given_the_newer_documents(registry):
    registry.judge(Parts.of(APP, WEIGHTS, indexed(registry, 1)))
    brief = {"prompt": Prompt(system="Be brief."), "retrieval": indexed(registry, 1, k=1)}
    found = Parts.of(APP, WEIGHTS).model_copy(update=brief)
    asked = Parts.of(APP, WEIGHTS, indexed(registry, 2))
    assert reconfigure._is_chosen_over(registry, APP, found, asked, None)
    kept = reconfigure._with_index_of(found, asked)
    assert kept.changed_from(found) == ["retrieval"]
    assert kept.retrieval == indexed(registry, 2, k=1)


def test_it_stays_chosen_over_them_when_documents_change_again_or_not_at_all(registry):
    registry.judge(Parts.of(APP, WEIGHTS, indexed(registry, 1)))
    asked, over = Parts.of(APP, WEIGHTS, indexed(registry, 2)), Parts.of(APP, WEIGHTS, indexed(registry, 1))
    kept = Parts.of(APP, WEIGHTS, indexed(registry, 2, k=1))
    assert reconfigure._is_chosen_over(registry, APP, kept, asked, over.besides_documents)
    assert not reconfigure._with_index_of(kept, asked).changed_from(kept)
    third = Parts.of(APP, WEIGHTS, indexed(registry, 3))
    assert reconfigure._is_chosen_over(registry, APP, kept, third, over.besides_documents)
    edited = Parts.of(APP, WEIGHTS, indexed(registry, 3, k=3))
    assert not reconfigure._is_chosen_over(registry, APP, kept, edited, over.besides_documents)


def test_what_a_person_wrote_into_the_file_since_is_asked_for(registry):
    registry.judge(Parts.of(APP, WEIGHTS, indexed(registry, 1)))
    found = Parts.of(APP, WEIGHTS, indexed(registry, 1, k=1))
    edited = Parts.of(APP, WEIGHTS, indexed(registry, 2, k=3))
    assert not reconfigure._is_chosen_over(registry, APP, found, edited, None)
    same = Parts.of(APP, WEIGHTS, indexed(registry, 1, k=3))
    assert not reconfigure._is_chosen_over(registry, APP, found, same, None)


def test_a_champion_that_is_as_the_file_says_is_asked_for_on_newer_documents(registry):
    champion = Parts.of(APP, WEIGHTS, indexed(registry, 1))
    registry.judge(champion)
    newer = Parts.of(APP, WEIGHTS, indexed(registry, 2))
    assert not reconfigure._is_chosen_over(registry, APP, champion, newer, None)
    assert not reconfigure._is_chosen_over(registry, APP, Parts.of(APP, WEIGHTS), newer, None)
