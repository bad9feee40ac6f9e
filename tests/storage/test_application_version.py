"""Application versions: the same parts are the same version, and what answers is what was released."""

import json

import pytest
from upath import UPath

from nightshift.errors import BadInput
from nightshift.settings.application import Application
from nightshift.settings.decoding import Decoding
from nightshift.settings.pinned_index import PinnedIndex
from nightshift.settings.policies import Inference
from nightshift.settings.prompt import Prompt
from nightshift.storage.application_version import (
    PARTS,
    Parts,
    open_version,
    parts_tags,
    publish_version,
    weights_below,
)
from nightshift.storage.files import scratch
from nightshift.storage.manifest import Parent, require_manifest
from nightshift.storage.partition import partition_of, publish, read_file


@pytest.fixture
def app():
    source = {"uri": "rows.jsonl", "columns": {"prompt": "text", "answer": "answer"}}
    return Application(name="app", sources=[source], prompt=Prompt(system="Be brief."))


@pytest.fixture
def weights(storage):
    """What a training published."""
    folder = scratch(UPath(storage))
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    partition = partition_of(storage, "app", "models", "one")
    facts = {"base_model": "tiny"}
    manifest = publish(partition, folder, kind="model", application="app", inputs={"n": 1}, facts=facts)
    return Parent(uri=str(partition), digest=manifest.digest)


def edited(app, **fields):
    return app.model_copy(update=fields)


def test_an_edited_prompt_is_another_version_of_the_same_weights_and_the_same_parts_are_found(app, storage, weights):
    first, made = publish_version(app, storage, Parts.of(app, weights))
    again, found = publish_version(app, storage, Parts.of(app, weights))
    assert (again, found.created) == (first, made.created)
    changed = edited(app, prompt=Prompt(system="Be kind."))
    other, of_other = publish_version(changed, storage, Parts.of(changed, weights))
    assert (other != first, of_other.digest != made.digest) == (True, True)
    opened = [open_version(str(at), of.digest, app) for at, of in ((first, made), (other, of_other))]
    assert [one.weights.digest for one in opened] == [weights.digest] * 2
    assert opened[1].parts.changed_from(opened[0].parts) == ["prompt"]
    assert (opened[0].base_model, opened[0].snapshot) == ("tiny", None)


def test_a_registered_version_has_a_tag_for_each_step_of_its_prompt(app, weights):
    def asked(answer):
        files = {"intent": "Which intent? {{$prompt}}", "reply": answer}
        prompt = Prompt(steps=[{"name": name, "file": {"template": text}} for name, text in files.items()])
        return Parts.of(edited(app, prompt=prompt), weights)

    kind, brief = asked("Be kind: {{$prompt}}"), asked("Be brief: {{$prompt}}")
    assert brief.changed_from(kind) == ["prompt"]
    tags, others = parts_tags(kind), parts_tags(brief)
    assert [name for name in tags if tags[name] != others[name]] == [
        "nightshift.part.prompt",
        "nightshift.part.prompt.reply",
    ]
    assert tags.keys() - parts_tags(Parts.of(app, weights)).keys() == {
        "nightshift.part.prompt.intent",
        "nightshift.part.prompt.reply",
    }


def test_what_the_file_says_by_now_is_not_what_users_of_a_version_meet(app, storage, weights):
    released = edited(app, decoding=Decoding(temperature=0.5), inference=Inference(max_new_tokens=7))
    at, made = publish_version(released, storage, Parts.of(released, weights))
    today = edited(app, prompt=Prompt(system="Ignore it."), inference=Inference(max_new_tokens=99, rows_per_part=3))
    version = open_version(str(at), made.digest, today)
    assert version.application.prompt.system == "Be brief."
    assert version.application.decoding.temperature == 0.5
    assert (version.application.inference.max_new_tokens, version.application.inference.rows_per_part) == (7, 3)
    assert Parts.of(today, weights).changed_from(version.parts) == ["prompt", "decoding", "max_new_tokens"]


def test_a_model_of_before_there_were_versions_answers_as_the_file_says(app, weights):
    version = open_version(weights.uri, weights.digest, app)
    assert version.application == app
    assert Parts.of(app, version.parts.weights).changed_from(version.parts) == []


def test_a_version_whose_weights_are_gone_or_others_says_which(app, storage, weights):
    at, made = publish_version(app, storage, Parts.of(app, weights))
    UPath(weights.uri).fs.rm(UPath(weights.uri).path, recursive=True)
    with pytest.raises(BadInput, match="models/one: nothing is published there"):
        open_version(str(at), made.digest, app)
    folder = scratch(UPath(storage))
    (folder / "other.json").write_text("{}")
    publish(UPath(weights.uri), folder, kind="model", application="app", inputs={"n": 2})
    with pytest.raises(BadInput, match=r"models/one: holds .* now"):
        open_version(str(at), made.digest, app)


def test_weights_are_found_where_storage_lies_by_now(app, storage, weights):
    at, made = publish_version(app, storage, Parts.of(app, weights))
    home = UPath(storage) / "app"
    moved = f"s3://another/place/app/versions/{at.name}"
    assert weights_below(home, moved, made.digest).digest == weights.digest
    assert weights_below(home, "s3://another/app/models/one", weights.digest).digest == weights.digest
    assert weights_below(home, moved, "0" * 64) is None
    assert weights_below(home, "s3://another/app/models/two", weights.digest) is None


@pytest.fixture
def index(storage):
    """What the job `index` published, and another one of the day after."""

    def published(day):
        folder = scratch(UPath(storage))
        (folder / "chunks.json").write_text(day)
        at = partition_of(storage, "app", "indexes", day)
        made = publish(at, folder, kind="index", application="app", inputs={"day": day})
        return PinnedIndex(uri=str(at), digest=made.digest, search="bm25", k=3)

    return published


def test_a_newer_index_or_another_way_to_search_it_is_another_version_and_moved_storage_is_not(
    app, storage, weights, index
):
    monday, tuesday = index("monday"), index("tuesday")
    first, made = publish_version(app, storage, Parts.of(app, weights, monday))
    version = open_version(str(first), made.digest, app)
    assert version.application.index == monday
    assert version.application.answer_inputs == {"retrieval": {"digest": monday.digest, "search": "bm25", "k": 3}}
    assert [parent.digest for parent in require_manifest(first).parents] == [weights.digest, monday.digest]
    for other in (tuesday, monday.model_copy(update={"k": 5}), None):
        assert Parts.of(app, weights, other).changed_from(version.parts) == ["retrieval"]
    moved = monday.model_copy(update={"uri": "s3://elsewhere/app/indexes/monday"})
    assert publish_version(app, storage, Parts.of(app, weights, moved))[0] == first


def test_a_version_of_before_there_were_indexes_stays_what_it_was(app, storage, weights):
    at, made = publish_version(app, storage, Parts.of(app, weights))
    stored = json.loads(read_file(at, made, PARTS))
    assert set(stored) == {"weights", "prompt", "decoding", "max_new_tokens"}
    assert made.inputs == stored | {"weights": weights.digest}
    version = open_version(str(at), made.digest, app)
    assert (version.application.index, version.application.answer_inputs) == (None, {})
