"""Examples as a training holds them, in memory or in files."""

import numpy as np

from nightshift.settings.training import Training
from nightshift.training.packing import Packed
from nightshift.training.token_files import TokenFiles, as_tokens, common_prefix, write_part
from nightshift.training.tokens import TokenizedExample


def example(given, said):
    """Return an example whose last tokens are learned."""
    return TokenizedExample([*given, *said], ((len(given), len(given) + len(said)),))


class InMemory(list):
    """Tokenized examples in place of those that are mapped from files."""

    def __init__(self, examples):
        examples = list(examples)
        super().__init__(map(as_tokens, examples))
        self.lengths = np.array(list(map(len, self)), dtype=np.uint32)
        self.answers = np.array([len(example.answer) for example in examples], dtype=np.uint32)


def packed_rows(examples, length, prefix=None, too_long="leave_out", *, shared=True, recipe="sft"):
    """Pack tokenized examples, by default behind the prefix that they share."""
    held = InMemory(examples)
    training = Training.model_construct(sequence_length=length, too_long=too_long, recipe=recipe)
    return Packed.of(held, common_prefix(held).tolist() if prefix is None else prefix, training, shared=shared)


def write_tokens(folder, train, held_out):
    """Write tokenized examples as the files of a training."""
    prefixes = []
    for name, examples in (("train", train), ("held_out", held_out)):
        (folder / name).mkdir()
        prefixes.append(write_part(folder / name, map(as_tokens, examples)))
    return TokenFiles(train=[folder / "train"], held_out=[folder / "held_out"], prefix=common_prefix(prefixes).tolist())
