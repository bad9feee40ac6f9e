"""An edited prompt is noticed: once, by the clock, and again where a person asks; production keeps the released one."""

from datetime import UTC, datetime

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from candidates import as_version
from indexed import pinned
from release_tasks import registered
from retraining_tasks import context

from nightshift.jobs import register
from nightshift.orchestration import reconfigure
from nightshift.retrieval.newest import Newest, name_newest
from nightshift.settings.prompt import Prompt
from nightshift.settings.retrieval import Retrieval
from nightshift.storage.application_version import open_version

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shown")]


def looked(app, by=None):
    """What the task answers; of one that is skipped, why."""
    try:
        return reconfigure.changed.function(app.name, **context("look", user=by, params={}))
    except AirflowSkipException as skipped:
        return str(skipped)


def edit(app, **fields):
    app.application = app.application.model_copy(update=fields)
    app.require("never")


@pytest.fixture
def spec(judged):
    return judged(prompt=Prompt(system="Be brief."))


@pytest.fixture
def app(spec, progress):
    """An application whose champion is a version with the prompt of its file."""
    app = registered(as_version(spec, progress), progress)
    app.run()
    assert app.champion == "1"
    return app


def test_without_a_champion_there_is_nothing_to_change(spec, progress):
    assert looked(registered(spec, progress)).startswith("there is no champion yet")


def test_a_model_of_before_there_were_versions_follows_the_file(spec, progress):
    app = registered(spec, progress)
    app.run()
    edit(app, prompt=Prompt(system="Be kind."))
    assert looked(app) == "version 1, the champion, matches the application's file"


def test_an_edit_is_made_a_version_once_and_again_where_a_person_asks(app, spec, progress):
    assert looked(app) == "version 1, the champion, matches the application's file"
    edit(app, prompt=Prompt(system="Be kind."), description="of no part")
    made = looked(app)
    assert made["changes"] == ["prompt"]
    assert looked(app) == made  # nobody registered it yet
    candidate = as_version(spec, progress, prompt=Prompt(system="Be kind."))
    assert (candidate.model, candidate.model_digest) == (made["model"], made["model_digest"])
    register.run(candidate, progress)
    assert looked(app).startswith("version 2 is that version (prompt changed), and was judged before")
    assert looked(app, by="olga") == made
    # It is judged by the gate like any other, and when it is the champion nothing differs any more.
    app.run(reason="kinder")
    assert app.champion == "2"
    assert looked(app) == "version 2, the champion, matches the application's file"
    edit(app, prompt=Prompt(system="Be brief."))  # back: that version is there already
    assert looked(app).startswith("version 1 is that version (prompt changed)")


def test_a_newer_index_is_a_change_and_documents_that_are_only_read_again_are_none(app):
    edit(app, retrieval=Retrieval(documents=[{"uri": "faq/*.md"}]))
    assert looked(app) == "version 1, the champion, matches the application's file"  # there is no index yet
    versions = []
    for days in (1, 1, 2):
        index = pinned([("fees", "Fees", f"A card costs {days} euros.")], app.storage, application=app.name)
        name_newest(app.storage, app.name, Newest(uri=index.uri, digest=index.digest, read=datetime.now(UTC)))
        made = looked(app)
        assert made["changes"] == ["retrieval"]
        assert open_version(made["model"], made["model_digest"], app.application).application.index == index
        versions.append(made["model_digest"])
    assert versions[0] == versions[1] != versions[2]
