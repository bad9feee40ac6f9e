"""Running a model over many prompts: greedy answers, and how likely it finds the wanted ones.

What all prompts begin with (a chat template's frame, the system message) is computed once. Prompts of like length share a
batch, padded so that every answer starts at the same place; both the answer and the likelihood go on from one pass over
the prompt. Results come in the order of the prompts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, GenerationConfig
from transformers.utils.logging import disable_progress_bar

from nightshift.training.packing import common_prefix
from nightshift.training.tokens import TokenizedExample

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Answer:
    """What a model said to one prompt, and how likely it found the wanted answer.

    :param finished: whether it ended by itself, within the allowed tokens.
    :param wanted_loss: summed negative log-likelihood (nats) of the wanted answer's tokens, its end token included.
    """

    text: str
    tokens: int
    finished: bool
    wanted_loss: float


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to answer, on the best device there is."""

    model: Any
    tokenizer: Any
    end_tokens: frozenset[int]

    @property
    def pad_token(self) -> int:
        """A token to fill rows with; it is masked, so any will do."""
        return int(self.tokenizer.pad_token_id or min(self.end_tokens, default=0))


def load(folder: Path) -> LoadedModel:
    """Load a model folder (safetensors, config, tokenizer); no code that comes with a model is run."""
    disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=_precision(), use_safetensors=True)
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    ends = model.generation_config.eos_token_id
    # A chat model ends its turn with the tokenizer's end token, whatever its generation config knows.
    known = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}
    return LoadedModel(model, tokenizer, frozenset(known))


def _precision() -> torch.dtype:
    """bf16 where the processor multiplies it (else it is several times slower than fp32)."""
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


@torch.inference_mode()
def answer_all(
    loaded: LoadedModel,
    examples: Sequence[TokenizedExample],
    *,
    max_new_tokens: int,
    batch_size: int,
    report: Report = lambda done, of: None,
) -> list[Answer]:
    """Return the greedy answer of at most `max_new_tokens` tokens to each example, in the order of the examples."""
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(loaded.end_tokens),
        pad_token_id=loaded.pad_token,
        use_cache=True,
    )
    # The last token of a prompt is never shared: it starts the answer.
    prefix = common_prefix([TokenizedExample(example.prompt[:-1], []) for example in examples])
    shared = DynamicCache(config=loaded.model.config)
    if prefix:
        loaded.model(torch.tensor([prefix], device=loaded.model.device), past_key_values=shared, logits_to_keep=1)
    found: dict[int, Answer] = {}
    for batch in _batches(examples, batch_size):
        report(len(found), len(examples))
        answers = _answer([examples[index] for index in batch], loaded, shared, len(prefix), config)
        found.update(zip(batch, answers, strict=True))
    report(len(examples), len(examples))
    return [found[index] for index in range(len(examples))]


def _answer(
    examples: list[TokenizedExample], loaded: LoadedModel, shared: DynamicCache, prefix: int, config: GenerationConfig
) -> list[Answer]:
    tokens, mask = _left_padded([example.prompt for example in examples], loaded, prefix)
    cache = copy.deepcopy(shared)
    if prefix:
        cache.batch_repeat_interleave(len(examples))
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    if tokens.shape[1] - prefix > 1:
        loaded.model(
            tokens[:, prefix:-1],
            attention_mask=mask[:, :-1],
            position_ids=positions[:, prefix:-1],
            past_key_values=cache,
            logits_to_keep=1,
        )
    losses = _wanted_losses(examples, loaded, copy.deepcopy(cache), tokens[:, -1:], mask)
    output = loaded.model.generate(tokens, attention_mask=mask, past_key_values=cache, generation_config=config)
    answers = []
    for row, loss in zip(output[:, tokens.shape[1] :].tolist(), losses, strict=True):
        length = next((at for at, token in enumerate(row) if token in loaded.end_tokens), None)
        text = loaded.tokenizer.decode(row[:length], skip_special_tokens=True).strip()
        answers.append(Answer(text, len(row) if length is None else length, length is not None, loss))
    return answers


def _wanted_losses(
    examples: list[TokenizedExample],
    loaded: LoadedModel,
    cache: DynamicCache,
    last: torch.Tensor,
    mask: torch.Tensor,
) -> list[float]:
    """Teacher forcing from the last prompt token on; shorter answers are padded behind, where nothing looks at."""
    width = max(len(example.answer) for example in examples)
    padded = [example.answer + [loaded.pad_token] * (width - len(example.answer)) for example in examples]
    wanted = torch.tensor(padded, device=last.device)
    logits = loaded.model(
        torch.cat([last, wanted[:, :-1]], dim=1),
        attention_mask=torch.cat([mask, mask.new_ones(len(examples), width - 1)], dim=1),
        position_ids=mask.sum(1, keepdim=True) - 1 + torch.arange(width, device=last.device),
        past_key_values=cache,
    ).logits
    loss = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), wanted, reduction="none")
    return [float(row[: len(example.answer)].sum()) for row, example in zip(loss, examples, strict=True)]


def _batches(examples: Sequence[TokenizedExample], batch_size: int) -> Iterator[list[int]]:
    """Indices of examples of like length, longest first: what does not fit into memory shows at once."""
    order = sorted(range(len(examples)), key=lambda index: (-len(examples[index].prompt), index))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _left_padded(rows: list[list[int]], loaded: LoadedModel, prefix: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, with the padding right behind the shared prefix."""
    width = max(len(row) for row in rows)
    tokens = [row[:prefix] + [loaded.pad_token] * (width - len(row)) + row[prefix:] for row in rows]
    mask = [[1] * prefix + [0] * (width - len(row)) + [1] * (len(row) - prefix) for row in rows]
    device = loaded.model.device
    return torch.tensor(tokens, device=device), torch.tensor(mask, device=device)
