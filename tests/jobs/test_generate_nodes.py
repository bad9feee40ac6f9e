"""The jobs `generate` and `score` on several nodes: they answer as one, whoever is killed, late or without a champion."""

import shutil
import signal
import time

import pytest
from answered_intervals import begin, parts_of, score_spec, start
from upath import UPath

from nightshift.errors import BadEnvironment, BadInput
from nightshift.jobs import generate, score
from nightshift.jobs.contract import read_result
from nightshift.storage import sharing
from nightshift.verdict import Verdict

pytestmark = pytest.mark.slow


def test_three_nodes_answer_as_one_and_the_first_has_the_numbers_of_all(
    night, champion, progress, tmp_path, monkeypatch
):
    champion()
    whole = generate.run(generate.Spec(**night), progress)
    apart = night | {"storage": (tmp_path / "apart").as_uri()}
    monkeypatch.setenv("NIGHTSHIFT_NODES", "3")
    results = []
    for index in (2, 1, 0):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        results.append(generate.run(generate.Spec(**apart, run="night 1"), progress))
    assert results[:2] == [None, None]
    assert parts_of(results[2]) == parts_of(whole)
    times = {"responses", "seconds", "tokens_per_second"}
    assert results[2].model_dump(exclude=times) == whole.model_dump(exclude=times)

    # A shard keeps its own parts and numbers, on however many nodes.
    second = generate.run(generate.Spec(**apart, shard=1, shards=2, run="night 1"), progress)
    assert (second.responses, second.rows) == (results[2].responses, 7 + 4)


def test_nodes_of_one_run_answer_with_one_champion_though_it_changes(night, champion, progress, monkeypatch):
    first = champion()
    monkeypatch.setenv("NIGHTSHIFT_NODES", "2")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    assert generate.run(generate.Spec(**night, run="night 1"), progress) is None
    second = champion(seed=2)
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    assert generate.run(generate.Spec(**night, run="night 1"), progress).model == first.version
    with pytest.raises(BadInput, match=r"2 nodes would answer with whoever is champion .* give them `run`"):
        generate.run(generate.Spec(**night), progress)
    # A later run answers with the new champion: none of the earlier run's parts are its own.
    monkeypatch.setattr(sharing, "PATIENCE_SECONDS", 0)
    with pytest.raises(BadEnvironment, match=r"2 of 4 parts are missing \(rows 7-13, 21-24\)"):
        generate.run(generate.Spec(**night, run="night 2"), progress)
    monkeypatch.setenv("NIGHTSHIFT_NODES", "1")
    assert generate.run(generate.Spec(**night, run="night 1"), progress).model == second.version


def test_nodes_without_a_champion_end_and_the_first_says_so(night, progress, mlflow_server, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_NODES", "2")
    results = []
    for index in "01":
        monkeypatch.setenv("JOB_COMPLETION_INDEX", index)
        results.append(generate.run(generate.Spec(**night, run="night 1"), progress))
    assert results[0].verdict is Verdict.INSUFFICIENT_DATA
    assert results[1] is None


def on_two_nodes(job, spec, folder, dies_at, before=""):
    """Run a job as two processes; the first waits while the second is killed and started again. Return the result."""
    folder.mkdir()
    one, other = folder / "one", folder / "other"
    first = begin(job, spec, one, node=(0, 2), before=before)
    try:
        assert start(job, spec, other, dies_at, node=(1, 2), before=before) == -signal.SIGKILL
        while "1 of 2 nodes" not in (one / "log").read_text():
            assert first.poll() is None, (one / "log").read_text()[-3000:]
            time.sleep(0.1)
        assert not (one / "result.json").exists()
        assert start(job, spec, other, node=(1, 2), before=before) == 0, (other / "log").read_text()[-3000:]
        assert first.wait() == 0, (one / "log").read_text()[-3000:]
    finally:
        first.kill()
    assert not (other / "result.json").exists()
    return read_result(job, spec, str(one / "result.json")).result


@pytest.mark.usefixtures("forked_jobs")
def test_the_first_node_waits_for_one_that_is_killed_and_started_again(night, champion, progress, tmp_path):
    champion()
    alone = generate.run(generate.Spec(**night | {"storage": (tmp_path / "other").as_uri()}), progress)
    killed = "nightshift.inference.chat_engine", "prompt_ids", 2
    result = on_two_nodes("generate", generate.Spec(**night, run="night 1"), tmp_path / "generate", killed)
    together = generate.Result.model_validate(result)
    assert parts_of(together) == parts_of(alone)

    scored_alone = score.run(score_spec(night, together), progress)
    shutil.rmtree(UPath(scored_alone.interactions).path)
    few_rows = "import nightshift.evaluation.scoring as scoring\nscoring.ROWS_AT_ONCE = 7"
    killed = "nightshift.evaluation.scoring", "publish", 2
    result = on_two_nodes("score", score_spec(night, together), tmp_path / "score", killed, few_rows)
    assert result["digest"] == scored_alone.digest
