"""A training that goes on with another number of processes ends where an undisturbed one does."""

import multiprocessing

import pytest
from training_runs import one_process
from upath import UPath

from nightshift.settings.application import Prompt
from nightshift.settings.training import Training

pytestmark = pytest.mark.slow
SETTINGS = {"precision": "fp32", "sequence_length": 128, "rows_per_step": 4, "rows_per_batch": 2, "learning_rate": 1e-2,
            "weight_decay": 0.1, "epochs": 3, "evaluate_steps": 1000, "checkpoint_steps": 1000}  # fmt: skip
STOP_AFTER = 3
INTENTS = ["card arrival", "lost phone", "cash fee"]


@pytest.fixture(scope="module")
def base(tmp_path_factory, tokenizer):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=2, bos_token_id=None, eos_token_id=None, pad_token_id=None,
            tie_word_embeddings=True,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("rows")
    for name, count in {"train": 37, "held_out": 5}.items():
        table = [
            {
                "digest": f"{name}{number:04}",
                "messages": [
                    {"role": "user", "content": f"{'so ' * (number % 5)}help {number} with {INTENTS[number % 3]}"},
                    {"role": "assistant", "content": INTENTS[number % 3]},
                ],
            }
            for number in range(count)
        ]
        pq.write_table(pa.Table.from_pylist(table), folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def forks():
    """Processes that begin with everything imported, as a training process would be after ten seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nightshift.training.fit", "deepspeed", "peft", "training_runs"])
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DS_ACCELERATOR", "cpu")
        environment.setenv("OMP_NUM_THREADS", "1")
        yield context


@pytest.fixture
def train(tmp_path, base, rows, forks):
    """A function that trains with so many processes from the newest checkpoint on, and returns losses and weights."""
    from safetensors.torch import load_file
    from torch.distributed import TCPStore

    from nightshift.training.checkpoints import Checkpoints
    from nightshift.training.elastic import for_processes
    from nightshift.training.layout import Layout, rows_at_once
    from nightshift.training.task import Task
    from nightshift.training.token_shards import TokenShards, tokenized

    storage = (tmp_path / "storage").as_uri()
    snapshot = rows / "train.parquet", rows / "held_out.parquet"
    shards = TokenShards(storage, "app", (storage, "rows"), *snapshot, base, Prompt())
    tokens = tokenized(shards, Layout(), lambda done, of: None, tmp_path)
    runs = []

    def run(world, name, *, stop_after=None, **settings):
        folder = tmp_path / f"run-{len(runs)}"
        runs.append(folder)
        training = Training(**{**SETTINGS, **settings})
        work, output, root = folder / "work", folder / "output", UPath((tmp_path / "storage" / name).as_uri())
        work.mkdir(parents=True)
        output.mkdir()
        checkpoint = Checkpoints(root, "app", {"name": name}).newest(work)
        task = Task(
            application="app", base_model=base, base_model_name="tiny", tokens=tokens,
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
        for process in processes:
            process.join(90)
            assert process.exitcode == (75 if stop_after else 0)
        while reports.poll():
            losses.update(reports.recv())
        return losses, None if stop_after else load_file(output / "model" / "model.safetensors")

    return run


LORA = {"method": "lora", "lora_rank": 4}


@pytest.mark.parametrize(
    ("before", "after", "settings"),
    [
        (1, 2, {"zero_stage": 0, "trained_layers": 1}),
        (1, 2, {"zero_stage": 1, **LORA}),
        (2, 1, {"zero_stage": 3}),
        pytest.param(2, 1, {"zero_stage": 1}, marks=pytest.mark.nightly),
        pytest.param(2, 1, {"zero_stage": 2, "trained_layers": 1}, marks=pytest.mark.nightly),
        pytest.param(1, 2, {"zero_stage": 2}, marks=pytest.mark.nightly),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_it_goes_on_with_another_number_of_processes(train, before, after, settings):
    losses, weights = train(1, "straight", **settings)
    first, _ = train(before, "elastic", stop_after=STOP_AFTER, **settings)
    second, elastic = train(after, "elastic", **settings)
    assert list(first) + list(second) == list(losses) == list(range(1, len(losses) + 1))
    assert {**first, **second} == pytest.approx(losses, rel=1e-4)
    for name, tensor in weights.items():
        assert elastic[name].numpy() == pytest.approx(tensor.numpy(), abs=1e-4), name
