"""Batched answers of a Hugging Face model, equal to those for single prompts.

The common prefix of all prompts (a chat template's frame, the system message) is computed once. Prompts of similar length share
a batch with a bounded number of tokens and almost no padding, and a row leaves the batch with its last token, so that no step is
spent on rows that have ended. Equal prompts are answered once. Results are in the order of the prompts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from nightshift.errors import BadInput
from nightshift.inference.constraint import allowed, answer_matcher
from nightshift.inference.engine import Continuation, Generated, Report
from nightshift.inference.key_value_cache import KeyValueCache
from nightshift.inference.likelihood import log_likelihoods
from nightshift.inference.model import LoadedModel, longest_of
from nightshift.inference.sampling import next_tokens
from nightshift.settings.decoding import Decoding

if TYPE_CHECKING:
    from llguidance import LLMatcher

# Tokens read in one pass: enough to keep the processor busy, few enough to keep padding and activations small.
TOKENS_A_PASS = {"cpu": 1024, "cuda": 8192}
GREEDY = Decoding()
CLOSE = 0.05  # limit of a logit's difference between two batches, also in bf16 (relative to the spread of the logits)


@dataclass
class _Row:
    """A row that is being answered: its places in the results, its tokens, and its answer so far.

    :param matcher: which tokens may follow, where the answer is constrained.
    """

    prompt: list[int]
    reference: list[int] | None
    results: list[int]
    answer: list[int]
    seed: int
    logprob: float = 0.0  # summed over the answer
    matcher: LLMatcher | None = None


class TransformersEngine:
    """Answers with a Hugging Face model in this process.

    :param decoding: how a token is chosen.
    :param batch_tokens: most tokens of prompts and answers in one batch, which bounds the memory of keys and values; a longer
        prompt is a batch of its own.
    :param batch_rows: most rows in one batch.
    :param logprobs: whether answers have their log-probability: a fifth more processor time with a small model.
    :raises BadInput: the model's family gives other answers in these batches, or llguidance cannot keep to `decoding`'s
        constraint.
    """

    name = "transformers"

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        max_new_tokens: int,
        batch_tokens: int,
        batch_rows: int = 1_000_000,
        decoding: Decoding = GREEDY,
        logprobs: bool = False,
    ) -> None:
        self._decoding, self._greedy, self._logprobs = decoding, decoding == GREEDY, logprobs
        self._model, self._pad, self._ends = loaded.model, loaded.pad_token, loaded.end_tokens
        self.tokenizer, self.longest = loaded.tokenizer, longest_of(loaded.model.config)
        self._max_new_tokens, self._batch_tokens, self._batch_rows = max_new_tokens, batch_tokens, batch_rows
        self.device = str(loaded.model.device)
        self.precision = str(loaded.model.dtype).removeprefix("torch.")
        config = loaded.model.config.get_text_config()
        self._layers = int(config.num_hidden_layers)
        self._kinds = set(getattr(config, "layer_types", None) or [])
        self._window = int(getattr(config, "sliding_window", None) or 0)
        self._rows = KeyValueCache(self._layers)
        self._matcher = (
            answer_matcher(decoding, self.tokenizer, self._ends, int(config.vocab_size))
            if decoding.constraint
            else None
        )
        self._check()

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[list[int]],
        report: Report = lambda done, of: None,
        *,
        seeds: Sequence[int] | None = None,
        references: Sequence[list[int]] | None = None,
    ) -> list[Generated]:
        """Return the answers in the order of the prompts, as :class:`TokenEngine` says."""
        results: list[Generated | None] = [None] * len(prompts)
        rows = self._distinct(prompts, seeds, references)
        prefix = common_prefix(prompts)
        shared = self._read_prefix(prefix)
        done = 0
        for batch in self._batches(rows):
            for row, generated in self._answer(batch, shared, len(prefix)):
                for place in row.results:
                    results[place] = generated
                done += len(row.results)
                report(done, len(prompts))
        return [generated for generated in results if generated is not None]

    def likelihoods(self, sequences: Sequence[Continuation], report: Report = lambda done, of: None) -> list[float]:
        """Return how likely each continuation is, in the order given, as :class:`TokenEngine` says."""
        return log_likelihoods(self._model, sequences, report)

    def _distinct(
        self, prompts: Sequence[list[int]], seeds: Sequence[int] | None, references: Sequence[list[int]] | None
    ) -> list[_Row]:
        """The rows to answer: equal prompts once, unless tokens are drawn."""
        drawn = seeds if seeds and self._decoding.temperature else [self._decoding.seed] * len(prompts)
        rows: dict[tuple[tuple[int, ...], tuple[int, ...], int], _Row] = {}
        for place, (prompt, seed) in enumerate(zip(prompts, drawn, strict=True)):
            asked = references[place] if references else None
            key = tuple(prompt), tuple(asked or ()), seed
            if key not in rows:
                rows[key] = _Row(prompt, asked, [], [], seed)
            rows[key].results.append(place)
        return list(rows.values())

    def _batches(self, rows: list[_Row]) -> Iterator[list[_Row]]:
        """Batches of rows of similar length, longest first, so that a lack of memory shows at once."""
        ordered = sorted(rows, key=lambda row: (-len(row.prompt), row.results[0]))
        start = 0
        while start < len(ordered):
            # The first row is the longest of its batch, so all others fit in slots of its width.
            width = len(ordered[start].prompt) + self._room(ordered[start:])
            count = max(1, min(self._batch_rows, self._batch_tokens // width))
            yield ordered[start : start + count]
            start += count

    def _room(self, rows: list[_Row]) -> int:
        """Tokens that a slot needs after its prompt."""
        return max([self._max_new_tokens, *(len(row.reference or []) for row in rows)])

    def _answer(self, batch: list[_Row], shared: KeyValueCache | None, prefix: int) -> Iterator[tuple[_Row, Generated]]:
        """Yield each row of a batch when it ends."""
        started = time.perf_counter()
        self._rows.shape(len(batch), len(batch[0].prompt) + self._room(batch))
        if shared:
            self._rows.repeat_prefix(shared, prefix, len(batch))
        self._read(batch, prefix)
        losses = self._reference_losses(batch)
        live = list(batch)
        if self._matcher:
            for row in live:
                row.matcher = self._matcher.deep_copy()
        drawn = batch if self._decoding.temperature else []
        chances = {id(row): torch.Generator().manual_seed(row.seed) for row in drawn}
        while live:
            lengths = [len(row.prompt) + len(row.answer) for row in live]
            last = torch.tensor(
                [[row.answer[-1] if row.answer else row.prompt[-1]] for row in live], device=self.device
            )
            logits = self._pass(last, lengths=[length - 1 for length in lengths]).logits[:, -1]
            if self._matcher:
                matchers = [row.matcher for row in live if row.matcher]
                logits = allowed(logits, matchers, max(logits.shape[1], len(self.tokenizer)))
            ended = []
            tokens = self._next_tokens(logits, live, chances)
            if self._logprobs:
                for row, logprob in zip(live, _logprobs(logits, tokens), strict=True):
                    row.logprob += logprob
            for place, token in enumerate(tokens):
                row = live[place]
                stop = token in self._ends
                if not stop:
                    row.answer.append(token)
                    stop = self._stops(row.answer)
                # An answer whose constraint grows too complex to follow is cut.
                cut = row.matcher is not None and not row.matcher.consume_token(token)
                if stop or cut or len(row.answer) == self._max_new_tokens:
                    ended.append(place)
                    row.matcher = None  # it is large
                    reason: Literal["stop", "length"] = "stop" if stop and not cut else "length"
                    milliseconds = (time.perf_counter() - started) * 1000
                    mean = row.logprob / (len(row.answer) + (token in self._ends)) if self._logprobs else None
                    yield row, Generated(row.answer, reason, milliseconds, losses.get(id(row)), mean)
            self._leave(live, ended, max(lengths))

    def _next_tokens(self, logits: torch.Tensor, live: list[_Row], chances: dict[int, torch.Generator]) -> list[int]:
        if self._greedy:
            return list(logits.argmax(-1).tolist())
        prompts, answers = [row.prompt for row in live], [row.answer for row in live]
        return next_tokens(logits, self._decoding, prompts, answers, [chances[id(row)] for row in live if chances])

    def _stops(self, answer: list[int]) -> bool:
        """Whether an answer ends with a stop string. A token has at least one byte, so the last tokens contain all of it."""
        if not self._decoding.stop:
            return False
        longest = max(len(text.encode()) for text in self._decoding.stop)
        end = str(self.tokenizer.decode(answer[-(longest + 4) :], skip_special_tokens=True))
        return any(text in end for text in self._decoding.stop)

    def _leave(self, live: list[_Row], ended: list[int], reach: int) -> None:
        """Drop rows: the last rows move into the free slots."""
        remaining = len(live) - len(ended)
        gone = set(ended)
        targets = [place for place in ended if place < remaining]
        sources = [place for place in range(remaining, len(live)) if place not in gone]
        if targets:
            self._rows.move(sources, targets, reach)
        for source, target in zip(sources, targets, strict=True):
            live[target] = live[source]
        del live[remaining:]

    def _read_prefix(self, prefix: list[int]) -> KeyValueCache | None:
        """Compute the common prefix of all prompts, in a cache of its own."""
        if not prefix:
            return None
        shared, own = KeyValueCache(self._layers), self._rows
        shared.shape(1, len(prefix))
        self._rows = shared
        try:
            self._pass(torch.tensor([prefix], device=self.device), lengths=[0], logits=False)
        finally:
            self._rows = own
        return shared

    def _read(self, batch: list[_Row], prefix: int) -> None:
        """Read the prompts after the prefix, except their last token, which starts the answer."""
        start = 0
        while start < len(batch):
            width = len(batch[start].prompt) - 1 - prefix
            if width < 1:
                return
            rows = batch[start : start + max(1, TOKENS_A_PASS[self.device.partition(":")[0]] // width)]
            tokens = [row.prompt[prefix:-1] for row in rows]
            self._pass(self._padded(tokens), lengths=[prefix] * len(rows), first=start, logits=False)
            start += len(rows)

    def _reference_losses(self, batch: list[_Row]) -> dict[int, float]:
        """Teacher forcing from the last prompt token on; the answers overwrite its entries in the cache."""
        losses = {}
        most = max(1, TOKENS_A_PASS[self.device.partition(":")[0]] // max(len(row.reference or [0]) for row in batch))
        for start in range(0, len(batch), most):
            rows = [(row, row.reference) for row in batch[start : start + most] if row.reference]
            if not rows:
                continue
            given = self._padded([[row.prompt[-1], *reference[:-1]] for row, reference in rows])
            lengths = [len(row.prompt) - 1 for row, _ in rows]
            logits = self._pass(given, lengths=lengths, first=start).logits.float()
            targets = self._padded([reference for _, reference in rows])
            loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
            for number, (row, reference) in enumerate(rows):
                losses[id(row)] = float(loss[number, : len(reference)].sum())
        return losses

    def _pass(self, tokens: torch.Tensor, *, lengths: list[int], first: int = 0, logits: bool = True) -> Any:
        """Run the model over `tokens` (B x N) that follow `lengths` tokens in the slots from `first` on."""
        starts = torch.tensor(lengths, device=tokens.device)
        size = tokens.shape[1]
        positions = starts[:, None] + torch.arange(size, device=tokens.device)
        self._rows.select(first, starts, size, max(lengths) + size)
        # Where all start at one place, all look at the same places; what lies behind a shorter row it never looks at.
        distinct = positions[:1] if min(lengths) == max(lengths) else positions
        masks = self._masks(distinct, max(lengths) + size, len(lengths))
        inputs = {
            "input_ids": tokens,
            "attention_mask": masks,
            "position_ids": positions,
            "past_key_values": self._rows,
            "use_cache": True,
        }
        return self._model(**inputs) if logits else self._model.get_decoder()(**inputs)

    def _masks(self, positions: torch.Tensor, reach: int, rows: int) -> Any:
        """The attention masks, added to the scores (B x 1 x N x reach), by kind of layer: itself and tokens before."""
        keys = torch.arange(reach, device=positions.device)
        hidden = {"full_attention": keys > positions[:, None, :, None]}
        if self._window:
            hidden["sliding_attention"] = hidden["full_attention"] | (
                keys <= positions[:, None, :, None] - self._window
            )
        masks = {
            kind: torch.zeros(where.shape, dtype=self._model.dtype, device=where.device)
            .masked_fill_(where, float("-inf"))
            .expand(rows, -1, -1, -1)
            for kind, where in hidden.items()
        }
        if len(self._kinds) > 1:
            return masks
        return masks.get(next(iter(self._kinds), "sliding_attention"), masks["full_attention"])

    def _padded(self, rows: list[list[int]]) -> torch.Tensor:
        width = max(len(row) for row in rows)
        return torch.tensor([row + [self._pad] * (width - len(row)) for row in rows], device=self.device)

    @torch.inference_mode()
    def _check(self) -> None:
        """Check that two rows of different lengths, read and continued in a batch, give the same logits as alone."""
        prompts = [[self._pad, *range(2, 8)], [self._pad, 5, 3]]
        rows = [_Row(prompt, None, [0], [], 0) for prompt in prompts]
        self._rows.shape(2, 8)
        try:
            self._read(rows, 0)
            last = self._padded([[prompt[-1]] for prompt in prompts])
            together = self._pass(last, lengths=[len(prompt) - 1 for prompt in prompts]).logits[:, -1].float()
            alone = torch.stack([self._model(self._padded([prompt])).logits[0, -1].float() for prompt in prompts])
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise self._unfit(f"{type(error).__name__}: {error}") from error
        difference = float((together - alone).abs().max() / alone.std().clamp(min=1e-6))
        if not difference < CLOSE * (1 if self.precision == "float32" else 4):
            raise self._unfit(f"its answers change by {difference:.2g} standard deviations when rows share a batch")

    def _unfit(self, why: str) -> BadInput:
        name = type(self._model).__name__
        return BadInput(
            f"the engine `transformers` cannot run {name} ({why}); use inference.engine: vllm, or another model"
        )


def _logprobs(logits: torch.Tensor, tokens: list[int]) -> list[float]:
    """The log-probability of each row's token."""
    chosen = torch.tensor(tokens, device=logits.device)
    return (-torch.nn.functional.cross_entropy(logits.float(), chosen, reduction="none")).tolist()


def common_prefix(prompts: Sequence[list[int]]) -> list[int]:
    """Return the common prefix of all prompts; the last token of a prompt is never part of it, as it starts the answer."""
    if not prompts:
        return []
    low, high = min(prompts), max(prompts)
    most = min(len(prompt) for prompt in prompts) - 1
    length = next((at for at in range(most) if low[at] != high[at]), most)
    return low[:length]
