"""A real cluster and a real Airflow beside it: what the tests of `make test-kubernetes` share.

They need a kubeconfig ($KUBECONFIG or ~/.kube/config) and the trainer image on the nodes ($NIGHTSHIFT_IMAGE). The pods
reach storage and MLflow at an address of this machine ($NIGHTSHIFT_TEST_HOST, or the one of the default route).
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes_runs import ended
from patience import wait_for

from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.place import this_place

KUBECONFIG = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube/config")
IMAGE = os.environ.get("NIGHTSHIFT_IMAGE", "")
OBJECT_STORE = "object-store"

PROFILE = {
    "backend": "kubernetes",
    "cpus": 0.1,
    "memory_gb": 3,
    "shared_memory_gb": 0.25,
    "scratch_gb": 4,
    "schedule_minutes": 15,
    "secret_sets": [OBJECT_STORE],
}
# What each profile has of its own.
PROFILES = {
    "pod": {"price_per_hour": 3.6},
    "pair": {"nodes": 2, "memory_gb": 2},
    "spot": {"spot": True},
    "hungry": {"memory_gb": 0.1, "shared_memory_gb": 0.01},
    "imageless": {"image": "nightshift.invalid/nothing:1", "startup_minutes": 1},
    "gpus": {"gpus": 64},
    "elsewhere": {"connection": "cluster_elsewhere"},
    "powerless": {"connection": "cluster_powerless"},
    "crowded": {"namespace": "crowded"},
}
APPLICATION = """\
description: Small enough to run often.
start: 2026-11-02
schedule: null
compute: {compute}
base_model: {model}
sources:
  - uri: {data}/{{start:%Y-%m-%d}}.csv
    columns: {{prompt: {prompt}, answer: intent, id: message_id, timestamp: written_at}}
ingest: {{splits: {{train: 0.7, traffic: 0.1, held_out: 0.2}}}}
training:
  {{precision: fp32, epochs: {epochs}, rows_per_step: 4, rows_per_batch: 2, checkpoint_steps: 10, evaluate_steps: 1000}}
evaluation: {{max_examples: 50, max_new_tokens: 4}}
gate: {{metric: chrf, min_gain_over_base: 0, min_examples: 10}}
inference: {{rows_per_part: 100, max_new_tokens: 4}}
"""


@pytest.fixture(scope="session")
def cluster():
    """The client of the cluster; without one all tests are skipped, with the reason."""
    from kubernetes import client, config

    if not KUBECONFIG.exists():
        pytest.skip(f"no cluster: there is no {KUBECONFIG}; export KUBECONFIG")
    if not IMAGE:
        pytest.skip("no image: build the trainer (docker/README.md), load it onto the nodes, export NIGHTSHIFT_IMAGE")
    config.load_kube_config(str(KUBECONFIG))
    try:
        client.VersionApi().get_code(_request_timeout=(5, 10))
    except Exception as error:
        pytest.skip(f"no cluster: {KUBECONFIG} names one that does not answer ({type(error).__name__})")
    return client


@pytest.fixture(scope="session")
def kubeconfig(cluster) -> Path:
    """The file that names the cluster."""
    return KUBECONFIG


@pytest.fixture(scope="session")
def host() -> str:
    """An address of this machine that pods can reach."""
    if named := os.environ.get("NIGHTSHIFT_TEST_HOST"):
        return named
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))  # sends nothing: only asks which address would be used
        return str(probe.getsockname()[0])


@pytest.fixture(scope="session")
def object_store(host: str) -> Iterator[dict[str, str]]:
    """An S3 server that pods reach, with the sample's data in it: the variables that open it."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address=host, port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as environment:
        for key, value in variables.items():
            environment.setenv(key, value)
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="nightshift")
        samples = Path(sys.modules["nightshift"].__file__).parent / "samples/banking77"
        for file in sorted(samples.glob("2026-*.csv"))[:2]:
            s3.upload_file(str(file), "nightshift", f"data/{file.name}")
        yield variables
    server.stop()


@pytest.fixture(scope="session")
def namespace(cluster, object_store: dict[str, str]) -> Iterator[str]:
    """A namespace that enforces the restricted standard, with the jobs' account and the key of the object store."""
    name = f"nightshift-test-{uuid.uuid4().hex[:6]}"
    for one in (name, f"{name}-crowded"):
        make_namespace(cluster, one, object_store)
    yield name
    for one in (name, f"{name}-crowded"):
        cluster.CoreV1Api().delete_namespace(one)


def make_namespace(cluster, name: str, object_store: dict[str, str]) -> None:
    core, restricted = cluster.CoreV1Api(), {"pod-security.kubernetes.io/enforce": "restricted"}
    core.create_namespace({"metadata": {"name": name, "labels": restricted}})
    core.create_namespaced_service_account(
        name, {"metadata": {"name": "nightshift-job"}, "automountServiceAccountToken": False}
    )
    core.create_namespaced_secret(name, {"metadata": {"name": OBJECT_STORE}, "stringData": object_store})


@pytest.fixture(scope="session")
def base_model(object_store, tmp_path_factory) -> str:
    """URI of a language model that trains in seconds."""
    import boto3
    from tiny_model import tiny_model

    folder = tiny_model(tmp_path_factory.mktemp("model"))
    for file in folder.iterdir():
        boto3.client("s3").upload_file(str(file), "nightshift", f"models/tiny/{file.name}")
    return "s3://nightshift/models/tiny"


@pytest.fixture(scope="session")
def stack(namespace, object_store, base_model, host, tmp_path_factory) -> Iterator[dict[str, str]]:
    """A running Airflow and MLflow, whose applications use the cluster: its environment."""
    home = tmp_path_factory.mktemp("stack")
    apps, compute = home / "apps", home / "compute"
    apps.mkdir()
    compute.mkdir()
    for name, own in PROFILES.items():
        fields = {**PROFILE, "namespace": namespace, **own}
        if own.get("namespace"):
            fields["namespace"] = f"{namespace}-{own['namespace']}"
        (compute / f"{name}.yaml").write_text(yaml.safe_dump(fields))
        write_application(apps, name, base_model, compute=name)
    write_application(apps, "pair_calm", base_model, compute="pair")
    write_application(apps, "wrong", base_model, compute="pod", prompt="no_such_column")
    environment = {
        **os.environ,
        **object_store,
        "NIGHTSHIFT_HOME": str(home / "nightshift"),
        "NIGHTSHIFT_PROJECT": str(home),
        "NIGHTSHIFT_STORAGE": "s3://nightshift/storage",
        "NIGHTSHIFT_AIRFLOW_PORT": str(free_port()),
        "NIGHTSHIFT_MLFLOW_PORT": str(free_port()),
        "NIGHTSHIFT_MLFLOW_HOST": host,
        # Both at once: the provider's trigger takes them for two clusters.
        "KUBECONFIG": str(KUBECONFIG),
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": connection(KUBECONFIG),
        "AIRFLOW_CONN_CLUSTER_ELSEWHERE": connection(home / "elsewhere.kubeconfig"),
        "AIRFLOW_CONN_CLUSTER_POWERLESS": connection(home / "powerless.kubeconfig"),
        "HOME_OF_TEST": str(home),
    }
    started = run_nightshift("up", environment)
    assert started.returncode == 0, started.stdout + started.stderr
    yield environment
    run_nightshift("down", environment)
    shutil.rmtree(home, ignore_errors=True)


def write_application(folder: Path, name: str, model: str, *, compute: str, prompt: str = "text") -> None:
    text = APPLICATION.format(
        compute=compute, model=model, data="s3://nightshift/data", prompt=prompt, epochs=8 if "pair" in name else 1
    )
    (folder / f"{name}.yaml").write_text(text)


def connection(kubeconfig: Path) -> str:
    return json.dumps({"conn_type": "kubernetes", "extra": {"kube_config_path": str(kubeconfig)}})


@pytest.fixture
def api(stack) -> Iterator[AirflowApi]:
    """Airflow's REST API, as the user `operator`."""
    with AirflowApi(this_place(stack)) as api:
        yield api


@pytest.fixture
def start(api) -> Callable[..., str]:
    """Start a run of a DAG of an application and return its id."""

    def start(dag: str, **conf) -> str:
        wait_for(lambda: api.has_dag(dag), 240, f"the DAG {dag}")
        api.unpause(dag)
        run = f"test-{uuid.uuid4().hex[:8]}"
        api.trigger(dag, run, conf)
        return run

    return start


@pytest.fixture(scope="session")
def ingest(stack) -> Callable[..., None]:
    """Give applications a day of examples."""

    def ingest(*names: str) -> None:
        with AirflowApi(this_place(stack)) as api:
            for dag in (f"{name}_ingest" for name in names):
                wait_for(lambda dag=dag: api.has_dag(dag), 240, dag, every=1)
                api.unpause(dag)
                api.trigger(dag, "ingested", {"day": "2026-11-02"})
            for name in names:
                assert ended(api, f"{name}_ingest", "ingested")["validate"]["state"] == "success"

    return ingest


@pytest.fixture
def pods(cluster, namespace):
    """The pods of a run, as they are now."""

    def pods(run: str) -> list:
        found = cluster.CoreV1Api().list_namespaced_pod(namespace).items
        return [pod for pod in found if (pod.metadata.annotations or {}).get("nightshift/run-id") == run]

    return pods


@pytest.fixture(scope="session")
def nightshift():
    """Run `nightshift <command>` as a person does."""
    return run_nightshift


def run_nightshift(command: str, environment: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "nightshift", *command.split()],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
