"""MLflow by its REST API says and does the same as MLflow's own client."""

import pytest
from mlflow import MlflowClient

from nightshift.registry import models
from nightshift.registry.rest import Mlflow
from nightshift.registry.tracking import TrackingRun
from nightshift.registry.versions import CANDIDATE, CHAMPION, DIGEST_TAG, MODEL_TAG

pytestmark = pytest.mark.slow


@pytest.fixture
def server(mlflow_server):
    with Mlflow({"MLFLOW_TRACKING_URI": f"{mlflow_server}/"}) as server:
        yield server


def test_a_version_its_tags_and_its_aliases_are_the_same_to_both(server):
    client = MlflowClient()
    client.create_registered_model("seen_twice")
    client.create_model_version("seen_twice", "s3://gone/model", tags={MODEL_TAG: "s3://model", DIGEST_TAG: "d" * 64})
    client.set_registered_model_alias("seen_twice", CANDIDATE, "1")
    known = server.version_of("seen_twice", "1")
    assert known == server.with_alias("seen_twice", CANDIDATE) == models.version_of("seen_twice", "1")
    assert (known.version, known.model, known.digest) == ("1", "s3://model", "d" * 64)
    server.set_alias(known, CHAMPION)
    server.set_tags(known, {"nightshift.release": "released"})
    moved = models.with_alias("seen_twice", CHAMPION)
    assert (moved.version, moved.tags["nightshift.release"]) == ("1", "released")


def test_what_does_not_exist_is_nothing(server):
    assert server.with_alias("nobody", CHAMPION) is None
    assert server.version_of("nobody", "1") is None
    assert server.run_of("nobody", "key") is None
    assert server.shown("nobody", "approval") == set()


def test_only_runs_that_were_written_whole_are_shown_and_a_run_is_found_by_its_key(server):
    TrackingRun("shown_once", key="a", name="a", tags={"nightshift.job": "approval"})
    page = server.show("shown_once", "b", "b", {"nightshift.job": "approval"}, {"hours": 1.5})
    assert server.show("shown_once", "b", "b", {"nightshift.job": "approval"}, {"hours": 2.5}) == page
    assert server.shown("shown_once", "approval") == {"b"}
    assert [server.run_of("shown_once", key).finished for key in "ab"] == [False, True]
    run = server.run_of("shown_once", "b")
    assert run.page == page
    assert MlflowClient().get_run(run.id).data.metrics == {"hours": 2.5}
