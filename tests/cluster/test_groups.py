"""A DeepSpeed training over two nodes (gloo on processors), as an indexed Job of a real cluster."""

import pytest
from kubernetes_runs import ended, log, said
from patience import wait_for
from upath import UPath

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def ingested(ingest):
    """Two applications with the same examples and settings."""
    ingest("pair", "pair_calm")


def gone(cluster, namespace: str, run: str) -> None:
    """Wait until the Jobs and Services of a run are deleted."""
    lists = (cluster.BatchV1Api().list_namespaced_job, cluster.CoreV1Api().list_namespaced_service)

    def left() -> list:
        found = [one for listed in lists for one in listed(namespace).items]
        return [one for one in found if (one.metadata.annotations or {}).get("nightshift/run-id") == run]

    wait_for(lambda: not left(), 240, "the Jobs and Services to be deleted", every=1)


def weights(result: dict) -> str:
    """The digest of the trained weights."""
    from nightshift.storage.manifest import require_manifest

    files = {file.name: file.sha256 for file in require_manifest(UPath(result["model"]), result["digest"]).files}
    return files["model/model.safetensors"]


def test_a_training_whose_node_is_killed_in_the_middle_ends_with_the_weights_of_an_undisturbed_one(  # noqa: PLR0917
    ingested, api, start, pods, cluster, namespace
):
    calm = start("pair_calm_finetune")
    assert ended(api, "pair_calm_finetune", calm, 900)["train"]["state"] == "success"

    run = start("pair_finetune")

    def second_node():
        for pod in pods(run):
            index = (pod.metadata.annotations or {}).get("batch.kubernetes.io/job-completion-index")
            if index == "1" and pod.status.phase == "Running":
                return pod
        return None

    wait_for(second_node, 300, "the second node to run", every=0.5)
    checkpoints = UPath("s3://nightshift/storage/pair/checkpoints")

    def a_checkpoint() -> bool:
        checkpoints.fs.invalidate_cache()
        return any(checkpoints.glob("*/*/manifest.json"))

    wait_for(a_checkpoint, 300, "a checkpoint", every=0.5)
    node = second_node()
    cluster.CoreV1Api().delete_namespaced_pod(node.metadata.name, namespace, grace_period_seconds=0)
    said(api, "pair_finetune", run, "train", words="going on from the checkpoint of step", seconds=600)
    tasks = ended(api, "pair_finetune", run, 900)
    assert (tasks["train"]["state"], tasks["train"]["try_number"]) == ("success", 1), log(
        api, "pair_finetune", run, "train"
    )
    assert weights(api.result("pair_finetune", run, "train")) == weights(
        api.result("pair_calm_finetune", calm, "train")
    )
    gone(cluster, namespace, run)


def test_a_night_is_answered_and_scored_by_two_nodes(ingested, api, start):
    # Unpaused, the DAG releases by itself what nobody asked for yet.
    assert ended(api, "pair_release", start("pair_release"), 900)["promote"]["state"] in {"success", "skipped"}
    run = start("pair_ingest", day="2026-11-03")
    assert ended(api, "pair_ingest", run, 600)["ingest"]["state"] == "success"
    run = start("pair_batch_inference", day="2026-11-03")
    tasks = ended(api, "pair_batch_inference", run, 900)
    assert (tasks["generate"]["state"], tasks["score"]["state"]) == ("success", "success")
    answered = api.result("pair_batch_inference", run, "generate")["rows"]
    assert answered > 100  # more than one part
    assert api.result("pair_batch_inference", run, "score")["rows"] == answered


def test_a_group_that_is_marked_failed_leaves_nothing(ingested, api, start, cluster, namespace):
    run = start("pair_finetune", epochs=50)
    said(api, "pair_finetune", run, "train", words="2 Running of 2 nodes", seconds=300)
    api._call("PATCH", f"/api/v2/dags/pair_finetune/dagRuns/{run}/taskInstances/train", json={"new_state": "failed"})
    gone(cluster, namespace, run)


def test_a_group_whose_input_is_wrong_fails_at_once(ingested, api, start):
    run = start("pair_finetune", rows_per_step=5)
    tasks = ended(api, "pair_finetune", run, 600)
    assert (tasks["train"]["state"], tasks["train"]["try_number"]) == ("failed", 1)
    assert "bad input" in log(api, "pair_finetune", run, "train")
