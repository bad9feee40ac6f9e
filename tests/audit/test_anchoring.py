"""The end of the log is anchored in MLflow and where the user says, also when one of them is down or somebody is killed."""

import shutil
import signal
from datetime import timedelta

import pytest
from audit_logs import KEY, NOW, PUBLIC, anchor_end, event, files_of, memory, place, run_until, written

from nightshift.audit.anchor import AnchorFiles
from nightshift.audit.anchor_runs import EXPERIMENT, AnchorRuns
from nightshift.audit.anchoring import Tampered, anchor_everywhere
from nightshift.audit.chain import Chain
from nightshift.audit.verify import verify
from nightshift.errors import BadEnvironment

LATER = NOW + timedelta(hours=1)


def more(chain, number):
    moment = NOW + timedelta(hours=number)
    chain.append("airflow", [event(number, at=moment)], moment)
    return chain


def cut(folder):
    """Take the newest file of the log away."""
    files_of(folder)[-1].unlink()


def test_every_end_is_anchored_once_and_names_the_anchor_before(tmp_path):
    chain, anchors = written(tmp_path.as_uri(), (2,)), place(tmp_path / "anchors")
    assert [anchor_end(chain, anchors, NOW) for _ in range(2)] == [4, 4]
    assert anchor_end(more(chain, 20), anchors, LATER) == 6
    assert [(anchor.count, anchor.previous) for anchor in anchors.every()[0]] == [(4, 0), (6, 4)]
    assert verify(chain, anchors.every()[0]).problems == []


def test_a_place_of_files_is_anchored_once_an_hour_and_looked_at_every_time(tmp_path):
    chain, anchors = written(tmp_path.as_uri(), (2,)), place(tmp_path / "anchors")
    for run in range(3 * 6):  # three hours of runs, each with something new
        anchor_end(more(chain, 20 + run), anchors, NOW + timedelta(minutes=10 * run, seconds=run % 7))
    kept, _ = anchors.every()
    assert len(kept) == 3
    assert verify(chain, kept).problems == []
    (tmp_path / "anchors").joinpath(chain.id()[:16], f"{kept[-1].count:012d}.json").write_text(
        kept[-1].model_copy(update={"anchored": NOW + timedelta(days=900)}).model_dump_json()
    )
    assert anchor_end(chain, anchors, NOW + timedelta(days=1)) == chain.end().count  # a wrong clock keeps nothing off
    files_of(tmp_path)[-1].unlink()
    with pytest.raises(Tampered):
        anchor_end(chain, anchors, NOW + timedelta(days=1, minutes=10))


@pytest.mark.parametrize("kind", ["memory", pytest.param("s3", marks=pytest.mark.slow)])
def test_anchors_in_an_object_store_are_read_all_together(kind, request, tmp_path):
    uri = f"{request.getfixturevalue('bucket')}/anchors" if kind == "s3" else f"memory://{tmp_path.name}/anchors"
    chain, anchors = written(tmp_path.as_uri(), (2,)), AnchorFiles(uri)
    assert anchors.every() == ([], [])
    for hour in range(5):
        anchor_end(more(chain, 20 + hour), anchors, NOW + timedelta(hours=hour))
    assert [anchor.count for anchor in anchors.every()[0]] == [6, 8, 10, 12, 14]


def test_an_empty_log_has_nothing_to_anchor(tmp_path):
    assert anchor_end(Chain(tmp_path.as_uri()), place(tmp_path / "anchors"), NOW) == 0
    assert not (tmp_path / "anchors").exists()


def test_a_log_that_was_cut_off_is_never_anchored_anew_however_it_grows(tmp_path):
    chain, anchors = written(tmp_path.as_uri(), (2, 1)), place(tmp_path / "anchors")
    anchor_end(chain, anchors, NOW)
    whole = files_of(tmp_path)[-1]
    content = whole.read_text()
    cut(tmp_path)
    for number in (None, 20, 21):
        if number:
            more(chain, number)
        with pytest.raises(Tampered, match=r"was tampered with:\n.*entry 6 was anchored in"):
            anchor_end(chain, anchors, NOW)
    assert len(anchors.every()[0]) == 1
    # Put right from a backup, it goes on, and what was collected in between is collected again.
    for file in files_of(tmp_path)[1:]:
        file.unlink()
    whole.write_text(content)
    assert anchor_end(more(more(chain, 20), 21), anchors, LATER) == 10


def test_a_log_that_was_removed_whole_is_missed(tmp_path):
    chain, anchors = written(tmp_path.as_uri(), (2,)), place(tmp_path / "anchors")
    anchor_end(chain, anchors, NOW)
    cut(tmp_path)
    with pytest.raises(Tampered, match="another log lay in"):
        anchor_end(chain, anchors, NOW)


def test_one_place_that_is_down_keeps_the_other_from_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    chain, anchors = written(tmp_path.as_uri(), (2,)), place(tmp_path / "anchors")
    nowhere = AnchorFiles("nowhere://anchors")
    with pytest.raises(
        BadEnvironment, match=r"Is the server running\?[^\0]*not anchored in nowhere://anchors: Unsupported"
    ):
        anchor_everywhere(chain, memory({}), [AnchorRuns(), nowhere, anchors], NOW)
    assert [anchor.count for anchor in anchors.every()[0]] == [4]


def test_a_log_that_one_place_contradicts_is_anchored_nowhere(tmp_path):
    chain, variables = written(tmp_path.as_uri(), (2,)), {}
    places = [place(tmp_path / name) for name in ("one", "other")]
    assert set(anchor_everywhere(chain, memory(variables), places, NOW, KEY).values()) == {4}
    remembered = variables["newest"]
    shutil.rmtree(tmp_path / "audit")
    shutil.rmtree(tmp_path / "one")
    written(tmp_path.as_uri(), (30,))
    for variables["newest"] in (remembered, None):  # either of two is enough
        with pytest.raises(Tampered, match="another log lay in"):
            anchor_everywhere(chain, memory(variables), places, LATER, KEY)
        assert not (tmp_path / "one").exists()
    assert [anchor.count for anchor in places[1].every()[0]] == [4]


@pytest.mark.slow
def test_who_replaces_the_log_and_mlflows_anchors_does_not_get_the_new_log_anchored(tmp_path, mlflow_store):
    chain, variables = written(tmp_path.as_uri(), (2,)), {}
    assert anchor_everywhere(chain, memory(variables), [AnchorRuns()], NOW, KEY) == {"Airflow": 4, "MLflow": 4}
    experiment = mlflow_store.get_experiment_by_name(EXPERIMENT)
    mlflow_store.rename_experiment(experiment.experiment_id, str(tmp_path))
    shutil.rmtree(tmp_path / "audit")
    written(tmp_path.as_uri(), (5,))
    with pytest.raises(Tampered, match=r"another log lay in .*: entry 4 was anchored in Airflow"):
        anchor_everywhere(chain, memory(variables), [AnchorRuns()], LATER, KEY)
    assert mlflow_store.get_experiment_by_name(EXPERIMENT) is None
    kept, _ = memory(variables).every()
    assert verify(chain, kept, trusted=frozenset({PUBLIC})).problems


def test_a_log_from_before_there_was_a_memory_or_a_key_goes_on(tmp_path):
    chain, anchors, variables = written(tmp_path.as_uri(), (2,)), place(tmp_path / "anchors"), {}
    anchor_end(chain, anchors, NOW)
    assert anchor_everywhere(chain, memory(variables), [anchors], LATER, KEY) == {"Airflow": 4, anchors.name: 4}
    assert anchor_everywhere(more(chain, 20), memory(variables), [anchors], LATER, KEY)[anchors.name] == 6
    found = verify(chain, anchors.every()[0], trusted=frozenset({PUBLIC}))
    assert (found.problems, found.matched, found.anchored) == ([], 1, 6)


def test_two_logs_may_share_a_place(tmp_path):
    anchors = place(tmp_path / "anchors")
    chains = [written((tmp_path / name).as_uri(), (2,)) for name in ("one", "other")]
    for number in (20, 21):
        assert [anchor_end(more(chain, number), anchors, NOW + timedelta(hours=number)) for chain in chains] == [
            number // 21 * 2 + 6
        ] * 2
    for chain in chains:
        found = verify(chain, anchors.every()[0])
        assert (found.problems, found.matched) == ([], 2)


@pytest.mark.slow
def test_mlflow_keeps_one_run_a_day_and_nobody_changes_an_anchor_in_it(tmp_path, mlflow_store):
    chain, anchors = written(tmp_path.as_uri(), (2,)), AnchorRuns()
    assert anchor_end(chain, anchors, NOW) == 4
    assert anchor_end(more(chain, 20), anchors, LATER) == 6
    found, wrong = anchors.every()
    own = [anchor for anchor in found if anchor.storage == chain.storage]
    assert [(anchor.count, anchor.previous) for anchor in sorted(own, key=lambda a: a.count)] == [(4, 0), (6, 4)]
    assert wrong == []
    newest = anchors.newest(chain.id(), chain.storage)
    assert newest.count == 6
    experiment = mlflow_store.get_experiment_by_name(EXPERIMENT)
    (run,) = [
        run
        for run in mlflow_store.search_runs([experiment.experiment_id])
        if run.data.tags["nightshift.audit.log"] == chain.storage
    ]
    with pytest.raises(Exception, match="Changing param values is not allowed"):
        mlflow_store.log_param(run.info.run_id, "000000006", "another")
    mlflow_store.delete_run(run.info.run_id)
    found, wrong = anchors.every()
    assert any("was deleted" in text and run.info.run_id in text for text in wrong)
    assert verify(chain, found).matched == 2
    cut(tmp_path)
    with pytest.raises(Tampered, match="the log ends with entry 4, but entry 6 was anchored in MLflow"):
        anchor_end(chain, anchors, NOW)


@pytest.mark.slow
@pytest.mark.usefixtures("mlflow_server")
def test_what_an_mlflow_that_was_down_missed_is_anchored_when_it_is_back(tmp_path, monkeypatch):
    chain = written(tmp_path.as_uri(), (2,))
    with monkeypatch.context() as down:
        down.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        down.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(BadEnvironment):
            anchor_everywhere(chain, memory({}), [AnchorRuns()], NOW)
        more(chain, 20)
    assert anchor_everywhere(chain, memory({}), [AnchorRuns()], NOW) == {"Airflow": 6, "MLflow": 6}
    assert verify(chain, AnchorRuns().every()[0]).matched == 1


ANCHORING = """
import sys
from datetime import timedelta
from audit_logs import NOW, anchor_end, event
from nightshift.audit.anchor_runs import AnchorRuns
from nightshift.audit.chain import Chain
chain = Chain(sys.argv[1])
for hour in range(12):
    moment = NOW + timedelta(hours=hour)
    chain.append("airflow", [event(hour, at=moment)], moment)
    anchor_end(chain, AnchorRuns(), moment)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("mlflow_server")
def test_killed_between_appending_and_anchoring_again_and_again_all_is_kept_and_anchored(tmp_path):
    storage = tmp_path.as_uri()
    for files in (2, 5, 8):
        assert run_until(ANCHORING, tmp_path, files) == -signal.SIGKILL
        assert verify(Chain(storage), AnchorRuns().every()[0]).problems == []
    assert run_until(ANCHORING, tmp_path) == 0
    found = verify(Chain(storage), AnchorRuns().every()[0])
    assert (found.problems, found.anchored) == ([], found.count)
    events = [entry["source_id"] for entry in Chain(storage).entries() if entry["source"] == "airflow"]
    assert sorted(events) == sorted(f"event {hour}" for hour in range(12))
