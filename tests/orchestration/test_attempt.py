"""What a job is given: a spec without secrets, a place of its own, an environment by allow-list."""

import json
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, Param

from nightshift.errors import BadInput
from nightshift.jobs.contract import JobSpec
from nightshift.orchestration.attempt import job_environment, new_attempt
from nightshift.registry.server import pages
from nightshift.settings.applications import load_application, load_compute
from nightshift.settings.judging import Judge
from nightshift.settings.policies import Inference
from nightshift.settings.retrieval import Retrieval
from nightshift.settings.search import Search


def context(run_id: str = "manual__2026-11-05", try_number: int = 1, conf: dict | None = None):
    dag = DAG("banking_assistant_finetune", params={"until": Param(None, type=["null", "string"])})
    ti = SimpleNamespace(dag_id=dag.dag_id, run_id=run_id, task_id="snapshot", map_index=-1, try_number=try_number)
    return {"ti": ti, "dag": dag, "dag_run": SimpleNamespace(conf=conf)}


@pytest.fixture(autouse=True)
def storage(monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", tmp_path.as_uri())
    return tmp_path


def attempt(arguments: dict | None = None, **kwargs):
    return new_attempt("snapshot", "banking_assistant", arguments or {}, context(**kwargs))


def test_each_try_has_a_result_of_its_own():
    assert attempt(try_number=1).result_uri != attempt(try_number=2).result_uri


def test_a_hostile_run_id_stays_inside_the_storage(storage):
    hostile = attempt(run_id="../../../etc/passwd; rm -rf /")
    assert hostile.result_uri.startswith((storage / "banking_assistant/results").as_uri())
    assert ".." not in hostile.result_uri


def test_run_ids_that_differ_only_in_what_a_path_cannot_hold_stay_apart():
    assert attempt(run_id="a b").result_uri != attempt(run_id="a/b").result_uri


def test_what_is_not_given_falls_back_to_the_default():
    assert attempt({"until": None, "window_days": None}).spec.until is None
    assert attempt({"until": "2026-11-05"}).spec.until.isoformat() == "2026-11-05"


def test_an_argument_that_does_not_fit_is_bad_input_and_named():
    with pytest.raises(BadInput, match=r"(?s)invalid arguments of the job snapshot.*until"):
        attempt({"until": "the day before"})


def test_a_run_without_an_interval_is_told_to_fill_in_the_day():
    with pytest.raises(BadInput, match="this run has no data interval; fill in `day`"):
        new_attempt("ingest", "banking_assistant", {"interval": {"start": None, "end": None}}, context())


def test_a_misspelt_parameter_of_a_run_is_refused():
    with pytest.raises(BadInput, match=r"unknown parameters \['untill'\]; known are \['until'\]"):
        attempt(conf={"untill": "2026-11-05"})


def test_a_job_sees_the_tracking_server_and_none_of_airflows_secrets(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret-key")
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_AIRFLOW", '{"conn_type": "http", "password": "of housekeeping"}')
    monkeypatch.setenv("SOME_TOKEN", "secret-token")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("HF_TOKEN", "for gated models")
    environment = job_environment(attempt().spec, "train", load_compute("local"))
    assert environment["HF_TOKEN"] == "for gated models"
    assert environment["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5999"
    assert environment["MLFLOW_TRACKING_PASSWORD"] == "pass-word"
    assert environment["LC_ALL"] == "C.UTF-8"
    assert environment["OMP_NUM_THREADS"] == "2"
    assert environment["NIGHTSHIFT_MEMORY_GB"] == "6.0"
    assert not [key for key in environment if key.startswith("AIRFLOW")]
    assert "SOME_TOKEN" not in environment
    assert not [key for key, value in environment.items() if "of housekeeping" in value]


KEYS = {"AWS_SECRET_ACCESS_KEY", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_STORAGE_ACCOUNT_KEY"}


@pytest.mark.parametrize(
    ("job", "storage", "source", "seen"),
    [
        ("train", "s3://bucket/nightshift", "/rows.csv", {"AWS_SECRET_ACCESS_KEY"}),
        ("train", "gs://bucket/nightshift", "/rows.csv", {"GOOGLE_APPLICATION_CREDENTIALS"}),
        ("train", "abfs://container/nightshift", "/rows.csv", {"AZURE_STORAGE_ACCOUNT_KEY"}),
        ("train", "file:///data", "/rows.csv", set()),
        ("ingest", "file:///data", "s3://drops/rows.csv", {"AWS_SECRET_ACCESS_KEY"}),
        ("train", "file:///data", "s3://drops/rows.csv", set()),
    ],
)
def test_a_job_sees_the_keys_of_the_object_store_that_it_works_on_and_no_other(monkeypatch, job, storage, source, seen):
    for key in KEYS:
        monkeypatch.setenv(key, "secret")
    app = load_application("banking_assistant")
    app = app.model_copy(update={"sources": [app.sources[0].model_copy(update={"uri": source})]})
    environment = job_environment(JobSpec(application=app, storage=storage), job, load_compute("local"))
    assert KEYS & set(environment) == seen


@pytest.mark.parametrize(
    ("connection", "seen"),
    [
        ("http://127.0.0.1:5999", "http://127.0.0.1:5999"),
        ("https://mlflow.example.com", "https://mlflow.example.com"),
        ('{"conn_type": "http", "host": "mlflow.example.com", "schema": "https"}', "https://mlflow.example.com"),
        (
            '{"conn_type": "http", "host": "https://mlflow.example.com", "port": 8443}',
            "https://mlflow.example.com:8443",
        ),
    ],
)
def test_the_tracking_server_is_reached_as_its_connection_says(monkeypatch, connection, seen):
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", connection)
    assert job_environment(attempt().spec, "train", load_compute("local"))["MLFLOW_TRACKING_URI"] == seen


def test_links_lead_to_the_address_at_which_people_see_mlflow_while_jobs_use_theirs(monkeypatch):
    inside = {
        "conn_type": "http",
        "host": "mlflow",
        "port": 5000,
        "extra": {"public_url": "https://mlflow.example.com/"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", json.dumps(inside))
    environment = job_environment(attempt().spec, "train", load_compute("local"))
    assert environment["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    assert pages("http://mlflow:5000", environment) == "https://mlflow.example.com"
    assert pages("http://someone:secret@mlflow:5000", {}) == "http://mlflow:5000"


@pytest.mark.parametrize(
    ("job", "seen"),
    [
        ("score", "key"),
        *((job, "key") for job in ("shadow", "replay", "reference")),
        ("generate", None),
        ("train", None),
    ],
)
def test_only_the_jobs_that_ask_the_judge_see_its_key(monkeypatch, job, seen):
    monkeypatch.setenv("AIRFLOW_CONN_LLM", '{"conn_type": "http", "password": "key"}')
    app = load_application("banking_assistant")
    judge = Judge(url="https://llm.example.com/v1", model="m", connection="llm")
    spec = JobSpec(application=app.model_copy(update={"judge": judge}), storage="file:///data")
    assert job_environment(spec, job, load_compute("local")).get("NIGHTSHIFT_JUDGE_KEY") == seen


@pytest.mark.parametrize(
    ("job", "seen"),
    [
        ("generate", "key"),
        ("evaluate", "key"),
        ("bias", "key"),
        ("shadow", "key"),
        ("replay", "key"),
        ("score", None),
        ("train", None),
    ],
)
def test_only_the_jobs_that_ask_the_endpoint_see_its_key(monkeypatch, job, seen):
    app = load_application("banking_assistant")
    hosted = Inference(endpoint={"url": "https://llm.example.com/v1", "model": "m", "connection": "hosted"})
    spec = JobSpec(application=app.model_copy(update={"inference": hosted}), storage="file:///data")
    if seen:
        with pytest.raises(BadInput, match=r"no Airflow connection 'hosted'; inference\.endpoint names it"):
            job_environment(spec, job, load_compute("local"))
    monkeypatch.setenv("AIRFLOW_CONN_HOSTED", '{"conn_type": "http", "password": "key"}')
    assert job_environment(spec, job, load_compute("local")).get("NIGHTSHIFT_ENDPOINT_KEY") == seen


@pytest.mark.parametrize(
    ("job", "keys"), [("index", 2), ("search_plan", 2), ("generate", 2), ("evaluate", 2), ("score", 0), ("train", 0)]
)
def test_the_jobs_that_embed_see_the_key_of_each_endpoint_that_the_file_names(monkeypatch, job, keys):
    def choice(connection):
        endpoint = {"url": f"https://{connection}.example.com/v1", "connection": connection}
        return {"embedder": {"model": "e", "dimensions": 384, "endpoint": endpoint}}

    app = load_application("banking_assistant")
    changed = {
        "retrieval": Retrieval(documents=[{"uri": "faq/*.md"}], **choice("hosted")),
        "search": Search(choices={"retrieval": [{}, choice("other")]}),
    }
    spec = JobSpec.model_construct(application=app.model_copy(update=changed), storage="file:///data")
    monkeypatch.setenv("AIRFLOW_CONN_HOSTED", '{"conn_type": "http", "password": "key"}')
    if keys:
        with pytest.raises(
            BadInput, match="no Airflow connection 'other'; the endpoint of a retrieval's embedder names it"
        ):
            job_environment(spec, job, load_compute("local"))
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", '{"conn_type": "http", "password": "other key"}')
    environment = job_environment(spec, job, load_compute("local"))
    found = {name: key for name, key in environment.items() if name.startswith("NIGHTSHIFT_EMBEDDER_KEY")}
    wanted = {"NIGHTSHIFT_EMBEDDER_KEY_HOSTED": "key", "NIGHTSHIFT_EMBEDDER_KEY_OTHER": "other key"}
    assert found == (wanted if keys else {})


@pytest.mark.parametrize(("job", "given"), [("index", True), ("generate", True), ("shadow", True), ("score", False)])
def test_the_jobs_that_find_passages_are_given_the_database_of_their_vectors(monkeypatch, job, given):
    retrieval = Retrieval(documents=[{"uri": "faq/*.md"}], database="vectors")
    app = load_application("banking_assistant").model_copy(update={"retrieval": retrieval})
    spec = JobSpec(application=app, storage="file:///data")
    if given:
        with pytest.raises(BadInput, match=r"no Airflow connection 'vectors'; retrieval\.database names it"):
            job_environment(spec, job, load_compute("local"))
    monkeypatch.setenv("AIRFLOW_CONN_VECTORS", "postgres://me:secret@db/shop")
    assert ("AIRFLOW_CONN_VECTORS" in job_environment(spec, job, load_compute("local"))) is given


def test_a_judge_whose_connection_is_gone_costs_its_scores_and_not_the_night(monkeypatch):
    app = load_application("banking_assistant")
    judge = Judge(url="https://llm.example.com/v1", model="m", connection="gone")
    spec = JobSpec(application=app.model_copy(update={"judge": judge}), storage="file:///data")
    assert "NIGHTSHIFT_JUDGE_KEY" not in job_environment(spec, "score", load_compute("local"))


@pytest.mark.parametrize(("job", "seen"), [("ingest", "k" * 32), ("train", None)])
def test_the_key_for_ids_reaches_the_job_that_reads_ids_alone(monkeypatch, job, seen):
    spec = JobSpec(application=load_application("banking_assistant"), storage="file:///data")
    assert "NIGHTSHIFT_ID_KEY" not in job_environment(spec, job, load_compute("local"))
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_ID_KEY", json.dumps({"conn_type": "generic", "password": "k" * 32}))
    assert job_environment(spec, job, load_compute("local")).get("NIGHTSHIFT_ID_KEY") == seen


def test_a_source_whose_connection_is_gone_is_named(monkeypatch):
    app = load_application("banking_assistant")
    source = app.sources[0].model_copy(update={"connection": "gone"})
    spec = JobSpec(application=app.model_copy(update={"sources": [source]}), storage="file:///data")
    with pytest.raises(BadInput, match="there is no Airflow connection 'gone'; the source 'banking77' names it"):
        job_environment(spec, "ingest", load_compute("local"))


def test_a_token_for_the_tracking_server_is_passed_where_the_connection_has_no_login(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token")
    assert "MLFLOW_TRACKING_TOKEN" not in job_environment(attempt().spec, "train", load_compute("local"))
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", "http://127.0.0.1:5999")
    assert job_environment(attempt().spec, "train", load_compute("local"))["MLFLOW_TRACKING_TOKEN"] == "token"


def test_a_compute_profile_can_let_more_variables_through(monkeypatch):
    monkeypatch.setenv("TEAM_PROXY", "eu-west-1")
    compute = load_compute("local").model_copy(update={"pass_environment": ["TEAM_*"]})
    assert job_environment(attempt().spec, "train", compute)["TEAM_PROXY"] == "eu-west-1"


def test_the_spec_holds_no_secret():
    assert "pass-word" not in attempt().spec.model_dump_json()
