"""A cluster that is down, forbids, or is full says so in the task within a minute, and the task goes on by itself later."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes_runs import ended, said

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(1200)]
DAY = {"day": "2026-11-02"}
MINUTE = 60
CHART = Path(__file__).parents[2] / "tests/deploy/rendered/aws.yaml"


class Way:
    """The way to an API server, which can be closed: connections are cut, and new ones are refused."""

    def __init__(self, server: str) -> None:
        url = urlsplit(server)
        self._target = (url.hostname, url.port or 443)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        if self._listener:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._target)
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def way(stack, kubeconfig) -> Iterator[Way]:
    """The way of the connection `cluster_elsewhere` to its cluster; it is closed."""
    fields = yaml.safe_load(kubeconfig.read_text())
    context = next(one["context"] for one in fields["contexts"] if one["name"] == fields["current-context"])
    cluster = next(one["cluster"] for one in fields["clusters"] if one["name"] == context["cluster"])
    way = Way(cluster["server"])
    cluster["tls-server-name"] = urlsplit(cluster["server"]).hostname
    cluster["server"] = f"https://127.0.0.1:{way.port}"
    Path(stack["HOME_OF_TEST"], "elsewhere.kubeconfig").write_text(yaml.safe_dump(fields))
    yield way
    with suppress(OSError):
        way.close()


def test_a_cluster_that_is_down_is_waited_for(api, start, way):
    run = start("elsewhere_ingest", **DAY)
    said(api, "elsewhere_ingest", run, "ingest", words="cannot be reached to", seconds=MINUTE + 30)
    way.open()
    tasks = ended(api, "elsewhere_ingest", run)
    assert [(task["state"], task["try_number"]) for task in tasks.values()] == [("success", 1)] * len(tasks)


def test_a_cluster_that_goes_down_while_a_pod_runs_is_found_again(api, start, way):
    way.open()
    run = start("elsewhere_ingest", day="2026-11-03")
    said(api, "elsewhere_ingest", run, "ingest", words="Pod has reached Running phase", seconds=300)
    way.close()
    said(api, "elsewhere_ingest", run, "ingest", words="cannot be reached to", seconds=180)
    way.open()
    tasks = ended(api, "elsewhere_ingest", run)
    assert {task["state"] for task in tasks.values()} == {"success"}


def test_a_cluster_that_forbids_says_what_to_apply_and_our_own_role_is_enough(  # noqa: PLR0917
    api, start, stack, cluster, namespace, kubeconfig
):
    core, rights = cluster.CoreV1Api(), cluster.RbacAuthorizationV1Api()
    core.create_namespaced_service_account(namespace, {"metadata": {"name": "airflow"}})
    token = core.create_namespaced_service_account_token("airflow", namespace, {"spec": {}}).status.token
    fields = yaml.safe_load(kubeconfig.read_text())
    for user in fields["users"]:
        user["user"] = {"token": token}
    Path(stack["HOME_OF_TEST"], "powerless.kubeconfig").write_text(yaml.safe_dump(fields))
    run = start("powerless_ingest", **DAY)
    words = "the chart deploy/helm/nightshift gives the right"
    said(api, "powerless_ingest", run, "ingest", words=words, seconds=MINUTE + 30)
    for manifest in yaml.safe_load_all(CHART.read_text()):
        manifest["metadata"]["namespace"] = namespace
        if manifest["kind"] == "RoleBinding":
            manifest["subjects"] = [{"kind": "ServiceAccount", "name": "airflow", "namespace": namespace}]
            rights.create_namespaced_role_binding(namespace, manifest)
        elif manifest["kind"] == "Role":
            rights.create_namespaced_role(namespace, manifest)
    tasks = ended(api, "powerless_ingest", run)
    assert {task["state"] for task in tasks.values()} == {"success"}


def test_a_namespace_that_is_full_is_waited_for(api, start, cluster, namespace):
    crowded, core = f"{namespace}-crowded", cluster.CoreV1Api()
    core.create_namespaced_resource_quota(crowded, {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})
    run = start("crowded_ingest", **DAY)
    said(api, "crowded_ingest", run, "ingest", words="is full: ", seconds=MINUTE + 30)
    core.delete_namespaced_resource_quota("none", crowded)
    tasks = ended(api, "crowded_ingest", run)
    assert {task["state"] for task in tasks.values()} == {"success"}


def test_gpus_that_no_node_has_are_named(api, start):
    ended(api, "gpus_ingest", start("gpus_ingest", **DAY))
    run = start("gpus_finetune")
    said(api, "gpus_finetune", run, "train", words="Insufficient nvidia.com/gpu", seconds=400)
    api._call("PATCH", f"/api/v2/dags/gpus_finetune/dagRuns/{run}/taskInstances/train", json={"new_state": "failed"})
