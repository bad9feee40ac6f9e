"""What the tests of training share: a random language model of a few thousand parameters, with its tokenizer."""

import multiprocessing

import pytest

CHAT = (
    "{% for m in messages %}{{ '<|start|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer():
    """A token for each byte, and a template that writes a line break after each turn."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    plain.add_special_tokens(["<|start|>", "<|end|>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<|end|>", pad_token="<|end|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|start|>"]})
    fast.chat_template = CHAT
    return fast


@pytest.fixture
def llama(tokenizer):
    """A random Llama in fp32, with grouped queries."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, bos_token_id=None, eos_token_id=None, pad_token_id=None,
        )
    )  # fmt: skip


@pytest.fixture(scope="session")
def base(tmp_path_factory, tokenizer):
    """A function that returns the folder of a small random model of a family; `-untied`: with a head of its own."""
    from families import family

    made = {}

    def folder(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            kind, _, untied = name.partition("-")
            layers = {"n_layer": 3} if kind == "gpt2" else {"num_hidden_layers": 3, "tie_word_embeddings": not untied}
            if name == "granite":
                layers["hidden_size"] = 64  # as many weights in four bits share a scale
            family(kind, len(tokenizer), **layers).save_pretrained(made[name])
            tokenizer.save_pretrained(made[name])
        return made[name]

    return folder


@pytest.fixture(scope="session")
def forks():
    """Processes that begin with everything imported, as a training process would be after ten seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nightshift.training.fit", "deepspeed", "peft", "training_runs"])
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DS_ACCELERATOR", "cpu")
        environment.setenv("OMP_NUM_THREADS", "1")
        yield context


@pytest.fixture
def train(tmp_path, tmp_path_factory, base, forks):
    """A function that trains a small model: see :func:`small_trainings.trainer`."""
    from small_trainings import trainer, write_rows

    rows = tmp_path_factory.mktemp("rows")
    write_rows(rows)
    return trainer(tmp_path, rows, forks, base)
