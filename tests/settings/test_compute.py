"""Compute profiles: what they allow, and how they say what is wrong."""

import pytest

from nightshift.settings.applications import BadApplication, load_application, load_compute
from nightshift.settings.compute import KubernetesCompute, pinned_image

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def write(project):
    def write(text: str, name: str = "gpu") -> None:
        (project / "compute" / f"{name}.yaml").write_text(text)

    return write


def test_the_profiles_that_come_with_the_package_can_be_read():
    assert load_compute("local").backend == "local"
    assert isinstance(load_compute("kubernetes"), KubernetesCompute)


def test_a_profile_says_where_it_is_wrong(write):
    write("backend: kubernetes\ngpus: 2\ntolerations:\n  - {key: gpu, efect: NoSchedule}\nmemory: 3\n")
    with pytest.raises(BadApplication) as error:
        load_compute("gpu")
    assert "gpu.yaml:4: tolerations[0].efect: unknown key; did you mean `effect`?" in str(error.value)
    assert "gpu.yaml:5: memory: unknown key; did you mean `memory_gb`?" in str(error.value)


def test_a_back_end_that_there_is_not_is_named_with_those_that_there_are(write):
    write("backend: slurm\n")
    with pytest.raises(BadApplication, match=r"gpu\.yaml: backend: there are local, kubernetes; you wrote 'slurm'"):
        load_compute("gpu")


@pytest.mark.parametrize("image", ["trainer", "trainer:latest", "trainer@sha256:12", "trainer:", "a b:1"])
def test_an_image_that_may_change_under_a_training_is_refused(image):
    with pytest.raises(ValueError, match="by digest"):
        pinned_image(image)


@pytest.mark.parametrize(
    "image", ["trainer:3f2c", f"ghcr.io/team/trainer@{DIGEST}", f"localhost:5000/trainer:1@{DIGEST}"]
)
def test_an_image_by_digest_or_tag_is_taken(image):
    assert pinned_image(image) == image


def test_a_secret_does_not_go_into_a_file_for_everybody(write):
    write("backend: kubernetes\nenvironment: {HF_TOKEN: hf_123456}\n")
    with pytest.raises(BadApplication, match="looks like a secret") as error:
        load_compute("gpu")
    assert "hf_123456" not in str(error.value).split("you wrote")[0]
    write("backend: kubernetes\nenvironment: {HTTPS_PROXY: 'http://me:word@proxy:3128'}\n")
    with pytest.raises(BadApplication, match="looks like a secret"):
        load_compute("gpu")
    write("backend: kubernetes\nsecrets: {HF_TOKEN: hub/token}\nenvironment: {TOKENIZERS_PARALLELISM: 'true'}\n")
    assert load_compute("gpu").secrets == {"HF_TOKEN": "hub/token"}


@pytest.mark.parametrize("setting", ["deadline_hours: 0", "queue: ''", "executor: my executor", "outage_hours: 1000"])
def test_a_local_profile_out_of_bounds_says_which_setting_it_is(write, setting):
    write(f"backend: local\n{setting}\n")
    with pytest.raises(BadApplication, match=rf"gpu\.yaml:2: {setting.partition(':')[0]}"):
        load_compute("gpu")


@pytest.mark.parametrize("paths", [["/scratch"], ["/data", "/data"]])
def test_two_things_are_not_mounted_at_one_path(write, paths):
    volumes = ", ".join(f"{{claim: one, path: {path}}}" for path in paths)
    write(f"backend: kubernetes\nvolumes: [{volumes}]\n")
    with pytest.raises(BadApplication, match=f"mounted at {paths[0]} already"):
        load_compute("gpu")


def test_shared_memory_is_part_of_the_memory(write):
    write("backend: kubernetes\nmemory_gb: 8\nshared_memory_gb: 8\n")
    with pytest.raises(BadApplication, match="counts as memory"):
        load_compute("gpu")


def test_only_jobs_that_run_a_model_hold_a_gpu_and_only_those_that_divide_their_work_take_all_nodes():
    compute = KubernetesCompute(name="gpu", backend="kubernetes", gpus=4, nodes=2)
    assert (compute.gpus_of("train"), compute.nodes_of("train")) == (4, 2)
    assert (compute.gpus_of("evaluate"), compute.nodes_of("evaluate")) == (4, 1)
    assert (compute.gpus_of("score"), compute.nodes_of("score")) == (0, 2)
    assert (compute.gpus_of("ingest"), compute.nodes_of("ingest")) == (0, 2)
    assert (compute.gpus_of("validate"), compute.nodes_of("validate")) == (0, 1)


def test_an_application_names_one_profile_for_all_jobs_or_others_for_some(project):
    file, rest = project / "apps" / "helper.yaml", "sources: [{uri: /data/x.jsonl, columns: {prompt: q, answer: a}}]\n"
    file.write_text("compute: kubernetes\n" + rest)
    assert load_application("helper").profile_of("train") == "kubernetes"
    file.write_text("compute: {train: gpu}\n" + rest)
    app = load_application("helper")
    assert (app.profile_of("train"), app.profile_of("ingest")) == ("gpu", "local")
    file.write_text("compute: {trian: gpu}\n" + rest)
    with pytest.raises(BadApplication, match=r"helper\.yaml:1: compute: there is no job trian"):
        load_application("helper")
