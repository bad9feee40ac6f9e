"""Whole trainings of random models of a few thousand parameters, in one process or several, from checkpoint to checkpoint."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from training_runs import one_process
from upath import UPath

from nightshift.settings.prompt import Prompt
from nightshift.settings.training import Training

SETTINGS = {"precision": "fp32", "sequence_length": 128, "rows_per_step": 4, "rows_per_batch": 2, "learning_rate": 1e-2,
            "weight_decay": 0.1, "epochs": 3, "evaluate_steps": 1000, "checkpoint_steps": 1000}  # fmt: skip
INTENTS = ["card arrival", "lost phone", "cash fee"]
SECONDS = 540


@dataclass(frozen=True)
class Trained:
    """Losses by step, all held-out losses in order, and the model that came out; of pairs also the accuracies."""

    losses: dict
    held_out: list
    output: Path
    accuracies: list
    of_steps: list

    @property
    def weights(self):
        from safetensors.torch import load_file

        return load_file(self.output / "model" / "model.safetensors")


def write_rows(folder, rejected=None, judged=False):
    """Write 37 training rows and 5 held-out ones; with a rejected answer they are preference pairs.

    With `judged` every other row says the rejected answer, and is a bad one; the answer of the next row stands beside each.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, count in {"train": 37, "held_out": 5}.items():
        table = [
            {
                "digest": f"{name}{number:04}",
                "messages": [
                    {"role": "user", "content": f"{'so ' * (number % 5)}help {number} with {INTENTS[number % 3]}"},
                    {"role": "assistant", "content": INTENTS[number % 3]},
                ],
                **({"rejected": {"role": "assistant", "content": rejected}} if rejected else {}),
            }
            for number in range(count)
        ]
        if judged:
            for number, row in enumerate(table):
                if not (good := number % 2 == 0):
                    row["messages"][-1]["content"] = rejected
                following = INTENTS[(number + 1) % 3] if not good or number + 1 == count else rejected
                row |= {"desirable": good, "rejected": {"role": "assistant", "content": following}}
        pq.write_table(pa.Table.from_pylist(table), folder / f"{name}.parquet")


def trainer(folder, rows, forks, base, *, recipe="sft"):
    """Return a function that trains with so many processes, from the newest checkpoint of this name on.

    :param base: a function that returns the folder of a family's base model.
    """
    from torch.distributed import TCPStore

    from nightshift.training.checkpoints import Checkpoints
    from nightshift.training.elastic import for_processes
    from nightshift.training.layout import Layout, rows_at_once
    from nightshift.training.task import Task
    from nightshift.training.token_shards import TokenShards, tokenized

    storage = (folder / "storage").as_uri()
    shards = TokenShards(
        storage,
        "app",
        (storage, "rows"),
        rows / "train.parquet",
        rows / "held_out.parquet",
        base("llama"),
        Prompt(),
        recipe=recipe,
    )
    tokens = tokenized(shards, Layout(), lambda done, of: None, folder)
    runs = []

    def run(world, name, *, stop_after=None, family="llama", shared=True, **settings):
        work, output = (folder / f"run-{len(runs)}" / each for each in ("work", "output"))
        runs.append(work)
        training = Training(**{**SETTINGS, **settings})
        root = UPath((folder / "storage" / name).as_uri())
        work.mkdir(parents=True)
        output.mkdir()
        checkpoint = Checkpoints(root, "app", {"name": name}).newest(work)
        task = Task(
            application="app", base_model=base(family), base_model_name="tiny",
            tokens=tokens if shared else tokens.model_copy(update={"prefix": []}),
            training=training.model_copy(update={"rows_per_batch": rows_at_once(training, world)}),
            layout=Layout(processes=world), checkpoints=str(root), inputs={"name": name}, work=work, output=output,
            resume_from=for_processes(checkpoint, world, training.zero_stage, work) if checkpoint else None,
        )  # fmt: skip
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        reports, sender = forks.Pipe(duplex=False)
        processes = [
            forks.Process(
                target=one_process, args=(task.model_dump_json(), rank, world, store.port, stop_after, sender)
            )
            for rank in range(world)
        ]
        for process in processes:
            process.start()
        losses = {}
        others = {"held_out_loss": [], "held_out_accuracy": [], "reward_accuracy": []}
        until = time.monotonic() + SECONDS
        for process in processes:
            process.join(until - time.monotonic())
            assert process.exitcode == (75 if stop_after else 0)
        while reports.poll():
            name, step, value = reports.recv()
            if name == "loss":
                losses[step] = value
            else:
                others[name].append(value)
        return Trained(losses, others["held_out_loss"], output, others["held_out_accuracy"], others["reward_accuracy"])

    return run


def answer_nats(model, rows, names):
    """The negative log-likelihoods (nats) of two answers of each row, by their names, behind prompts of six tokens: (rows, 2)."""
    found = []
    for row in rows:
        for name in names:
            ids = torch.tensor([row["prompt_ids"] + row[name]])
            logits = model(input_ids=ids).logits[0, 5:-1]
            found.append(torch.nn.functional.cross_entropy(logits, ids[0, 6:], reduction="sum"))
    return torch.stack(found).view(-1, 2)
