"""Trainings of a tiny model as commands, on one node or several, and what they leave in storage."""

import json
import os
import shutil
import socket
import threading
import time

from forks import start_job
from safetensors.torch import load_file
from upath import UPath

from nightshift.settings.application import Application
from nightshift.settings.intake import Source
from nightshift.settings.prompt import Prompt
from nightshift.storage.manifest import MANIFEST, read_manifest
from nightshift.storage.partition import fetch_folder

SMALL = {"sequence_length": 256, "rows_per_step": 2, "rows_per_batch": 1, "learning_rate": 1e-3}
APPLICATION = Application(
    name="app",
    prompt=Prompt(system="Name the intent."),
    sources=[Source(uri="/nowhere.csv", format="csv", columns={"prompt": "text", "answer": "intent"})],
)
NOBODY = "http://127.0.0.1:9"  # the port that discards; nothing listens


def start(spec, folder, *, dies_at=None, mlflow=NOBODY, anew=False, **more):
    """Start the job, without a compiler in reach; it may be told to kill itself at a function's call.

    :param anew: it imports its libraries itself, as in a pod.
    :param more: environment variables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_text(spec.model_dump_json())
    program = "import sys\nfrom nightshift.cli import main\nsys.exit(main())"
    if dies_at:
        module, name, call = dies_at
        program = (
            f"import os, signal, {module} as module\nowner, calls = module, []\n"
            f"*path, last = {name!r}.split('.')\nfor part in path: owner = getattr(owner, part)\n"
            "kept = getattr(owner, last)\n"
            "def last_words(*args, **kwargs):\n    calls.append(1)\n"
            f"    if len(calls) == {call}: os.kill(os.getpid(), signal.SIGKILL)\n    return kept(*args, **kwargs)\n"
            f"setattr(owner, last, last_words)\n{program}"
        )
    from nightshift.jobs.train import ENVIRONMENT

    environment = {
        **ENVIRONMENT,
        "PATH": "/nowhere",
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": mlflow,
        "TORCH_EXTENSIONS_DIR": str(folder / "compiled"),
        "NIGHTSHIFT_GIT_SHA": "test",
        **more,
    }
    arguments = ["train", "--spec", str(folder / "spec.json"), "--result", str(folder / "result.json")]
    return start_job(program, arguments, environment, folder / "log", anew=anew)


def start_nodes(spec, folder, count=2, **more):
    """Start the job on so many nodes, as the pods of an indexed Job would, and return them with their folders."""
    with socket.socket() as free:
        free.bind(("", 0))
        rendezvous = f"127.0.0.1:{free.getsockname()[1]}"
    nodes = []
    for index in range(count):
        place = {"NIGHTSHIFT_NODES": str(count), "JOB_COMPLETION_INDEX": str(index)}
        there = folder / f"node-{index}"
        nodes.append((start(spec, there, anew=True, NIGHTSHIFT_RENDEZVOUS=rendezvous, **place, **more), there))
    return nodes


def finish(process, folder, code):
    process.communicate()
    assert process.returncode == code, (folder / "log").read_text()[-3000:]


def model_of(spec):
    """The published model of a storage that holds one: its manifest and the digest of its weights."""
    (partition,) = list((UPath(spec.storage) / "app" / "models").iterdir())
    manifest = read_manifest(partition)
    return partition, manifest, manifest.file("model/model.safetensors").sha256


def checkpoints_of(spec):
    return sorted(path.name for path in (UPath(spec.storage) / "app" / "checkpoints").glob("*/*"))


def metrics_of(partition, manifest, tmp_path):
    folder = fetch_folder(partition, manifest, tmp_path)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses_of(partition, manifest, tmp_path):
    metrics = [line["metrics"] for line in metrics_of(partition, manifest, tmp_path)]
    return [numbers["loss"] for numbers in metrics if "loss" in numbers]


def wait_for_checkpoint(spec, process, seconds=120):
    """Return once the running training has published a checkpoint."""
    until = time.monotonic() + seconds
    while not list((UPath(spec.storage) / "app" / "checkpoints").glob(f"*/*/{MANIFEST}")):
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < until, "there is no checkpoint"
        time.sleep(0.02)


def copy_of(spec, name):
    """The same training on a copy of its storage."""
    copy = spec.model_copy(update={"storage": f"{spec.storage}-{name}"})
    shutil.copytree(UPath(spec.storage).path, UPath(copy.storage).path)
    return copy


def weights_of(spec):
    """The tensors of the published model, by name."""
    partition, manifest, _ = model_of(spec)
    return load_file((partition / manifest.file("model/model.safetensors").path).path)


def one_process(task, rank, world, port, stop_after, reports):  # noqa: PLR0917
    """Train as one of some processes; the first sends its losses, and those on held-out rows: name, step, value."""
    from nightshift.errors import Preempted
    from nightshift.training.fit import fit
    from nightshift.training.task import Task

    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port), TORCHELASTIC_USE_AGENT_STORE="True")  # fmt: skip
    stopping = threading.Event()

    def on_metrics(step, _steps, metrics):
        for name in {"loss", "reward_accuracy", "held_out_loss", "held_out_accuracy"} & metrics.keys():
            reports.send((name, step, metrics[name]))
        if step + 1 == stop_after:
            stopping.set()

    try:
        fit(Task.model_validate_json(task), on_metrics, stopping)
    except Preempted:
        os._exit(75)
