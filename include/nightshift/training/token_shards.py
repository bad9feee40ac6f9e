"""The tokens of a snapshot: made once, in parts, by all processes and nodes together, and found by every later training.

    <application>/tokens/<inputs>/<rows>/   one part: the tokens of these rows, the same whoever makes it
    <application>/tokens/<inputs>/used      when a training last asked for them

They can always be made again, so those that no training used for a week are removed by the next one.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.examples import both_answers
from nightshift.errors import BadEnvironment, BadInput
from nightshift.settings.prompt import Prompt
from nightshift.settings.training import LEARNED_FROM, Recipe
from nightshift.storage.files import names_in, read_bytes, read_each, replace, scratch_folder
from nightshift.storage.manifest import Manifest, Parent, digest_of
from nightshift.storage.partition import drop, fetch_folder, find, partition_of, publish
from nightshift.storage.sharing import Rows, await_parts, parts_of
from nightshift.training.base_model import tokenizer_digest
from nightshift.training.chat_template import ChatTemplate
from nightshift.training.token_files import DESIRABLE, TokenFiles, Tokens, as_tokens, common_prefix, write_part
from nightshift.training.tokens import tokenize

if TYPE_CHECKING:
    from nightshift.training.layout import Layout

# Part of the address: raise it when the same rows begin to give other tokens, or other files.
VERSION = 1
ROWS_A_PART = 20_000
ROWS_AT_ONCE = 100
# The held-out loss is measured on this many examples, the first by digest; judging the model is another job's.
HELD_OUT_EXAMPLES = 128
KEPT = timedelta(days=7)
POLL_SECONDS = 0.5

# Told how many of how many rows are tokens; it may raise, and the making ends with that.
Report = Callable[[int, int], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenShards:
    """The tokens of one snapshot for one tokenizer, in one application's words.

    :param snapshot: its URI and digest.
    :param train: local Parquet file with the rows to train on (`digest`, `messages`, and `metadata` where the prompt takes some).
    :param held_out: the same of the held-out rows, in order of digest.
    :param tokenizer: folder with a tokenizer and its chat template.
    :param recipe: `dpo`, `kto`: each row gives two examples: with its answer, then with `rejected`. Those of `kto` have a column
        `desirable` (:mod:`nightshift.data.judged_answers`).
    """

    storage: str
    application: str
    snapshot: tuple[str, str]
    train: Path
    held_out: Path
    tokenizer: Path
    prompt: Prompt
    loss_on: Literal["last_answer", "all_answers"] = "last_answer"
    recipe: Recipe = "sft"

    @cached_property
    def parts(self) -> list[Rows]:
        """The rows of each part: training rows by the 20,000, then the held-out ones, whose numbers go on from there.

        :raises BadInput: one of the two is empty.
        """
        train, held_out = (pq.read_metadata(file).num_rows for file in (self.train, self.held_out))
        if not train or not held_out:
            what = LEARNED_FROM[self.recipe]
            raise BadInput(f"the snapshot has {train} training and {held_out} held-out {what}; both are needed")
        return [*parts_of(train, ROWS_A_PART), (train, train + min(held_out, HELD_OUT_EXAMPLES) - 1)]

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """What determines the tokens: no length of rows, and nothing else of how they are packed."""
        return {
            "snapshot": self.snapshot[1],
            "tokenizer": tokenizer_digest(self.tokenizer),
            "prompt": self.prompt.model_dump(mode="json"),
            "loss_on": self.loss_on,
            "rows_a_part": ROWS_A_PART,
            "version": VERSION,
            **{"sft": {}, "dpo": {"pairs": True}, "kto": {"judged": True}}[self.recipe],
        }

    @cached_property
    def place(self) -> UPath:
        """Where the parts lie."""
        return partition_of(self.storage, self.application, "tokens", digest_of(self.inputs)[:16])

    def find(self, first: int, last: int) -> Manifest | None:
        """Return the manifest of a part that is there, or None."""
        return find(self.address((first, last)), self._inputs((first, last)))

    def make(self, part: Rows, report: Callable[[int], None] = lambda done: None) -> Manifest:
        """Tokenize the rows of a part as they are read, and publish it.

        :param report: told how many of its rows are done.
        :raises BadInput: as :func:`nightshift.training.tokens.tokenize`.
        """
        with scratch_folder(UPath(self.storage)) as folder:
            prefix = write_part(folder, self._examples(part, report))
            rows = part[1] + 1 - part[0]
            if self.recipe == "kto":
                file, first = self._rows_of(part)
                desirable = pq.read_table(file, columns=["desirable"])["desirable"]
                np.save(folder / DESIRABLE, desirable.slice(first, rows).to_numpy())
            return publish(
                self.address(part),
                folder,
                kind="tokens",
                application=self.application,
                inputs=self._inputs(part),
                counts={"rows": rows},
                facts={"prefix": prefix.tolist()},
                parents=[Parent(uri=self.snapshot[0], digest=self.snapshot[1])],
            )

    def fetch(self, manifests: Sequence[Manifest], folder: Path) -> TokenFiles:
        """Return all parts on this machine, checked against their digests.

        :param manifests: of all parts, in order.
        :param folder: for local copies.
        :raises BadEnvironment: a part is damaged or was removed; the next attempt makes it again.
        """

        def fetched(part: tuple[Rows, Manifest]) -> Path:
            rows, manifest = part
            try:
                return fetch_folder(self.address(rows), manifest, folder / f"{rows[0]}")
            except BadInput as error:
                drop(self.address(rows))
                raise BadEnvironment(f"{error}; the next attempt makes these tokens again") from error

        folders = read_each(self.place, fetched, list(zip(self.parts, manifests, strict=True)))
        prefix = common_prefix(np.array(manifest.facts["prefix"], dtype=np.uint32) for manifest in manifests)
        return TokenFiles(train=folders[:-1], held_out=folders[-1:], prefix=prefix.tolist())

    def address(self, part: Rows) -> UPath:
        """Return where a part lies."""
        return self.place / f"{part[0]:09}-{part[1]:09}"

    def _inputs(self, part: Rows) -> dict[str, Any]:
        return {**self.inputs, "rows": list(part)}

    def _rows_of(self, part: Rows) -> tuple[Path, int]:
        """The file that a part is made of, and the number of its first row there."""
        return (self.held_out, 0) if part == self.parts[-1] else (self.train, part[0])

    def _examples(self, part: Rows, report: Callable[[int], None]) -> Iterator[Tokens]:
        template, done = _loaded(self.tokenizer, self.prompt), 0
        file, first = self._rows_of(part)
        paired = self.recipe != "sft"
        columns = [*self.prompt.columns, *(["rejected"] if paired else [])]
        for rows in _read(file, columns, first, first + part[1] - part[0]):
            given = [each for row in rows for each in both_answers(row)] if paired else rows
            for example in tokenize(given, template, self.loss_on):
                yield as_tokens(example)
            done += len(rows)
            report(done)


def tokenized(shards: TokenShards, layout: Layout, report: Report, folder: Path) -> TokenFiles:
    """Return the tokens of a snapshot, after making this node's share of what is missing and waiting for the others'.

    :param report: called every half second while other processes work.
    :param folder: for local copies.
    :raises BadInput: the snapshot is empty, or the model's chat template refuses a row.
    :raises BadEnvironment: other nodes do nothing.
    """
    replace(shards.place / "used", datetime.now(UTC).isoformat().encode())
    if layout.node == 0:
        _remove_unused(shards.place.parent)
    mine = shards.parts[layout.node :: layout.nodes]
    known = {part: manifest for part in mine if (manifest := shards.find(*part))}
    known |= _make(shards, [part for part in mine if part not in known], report)

    def reported(done: int, _of: int, _who: str) -> None:
        report(sum(last + 1 - first for first, last in shards.parts[:done]), _rows(shards.parts))

    manifests = await_parts(shards.parts, known, shards.find, layout.nodes, reported)
    return shards.fetch(manifests, folder)


def _make(shards: TokenShards, parts: Sequence[Rows], report: Report) -> dict[Rows, Manifest]:
    """Make parts, in as many processes as there are processors; a small snapshot pays for none but this one."""
    made: dict[Rows, Manifest] = {}
    total = _rows(parts)
    processes = min(len(parts), int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))
    if processes < 2 or total <= ROWS_A_PART:
        for part in parts:

            def report_rows(done: int, before: int = _rows(made)) -> None:
                report(before + done, total)

            made[part] = shards.make(part, report_rows)
        return made
    # A process of its own imports and loads once what the others then have as forks of it. This one may have threads,
    # which do not survive a fork.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_make_in_forks, args=(shards, parts, processes, theirs))
    process.start()
    theirs.close()
    try:
        while len(made) < len(parts):
            if ours.poll(POLL_SECONDS):
                part, said = ours.recv()
                if isinstance(said, Exception):
                    raise said
                made[part] = said
            report(_rows(made), total)
    except EOFError as error:
        raise BadEnvironment(f"the {processes} processes that make tokens were killed: too little memory?") from error
    finally:
        # What they have published stays; the rest nobody sees.
        process.kill()
        process.join()
    return made


def _make_in_forks(shards: TokenShards, parts: Sequence[Rows], processes: int, to: Connection) -> None:
    """Send each part with its manifest, or an error that ends the making."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # who started this is told, and decides
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        _loaded(shards.tokenizer, shards.prompt)
        # Nothing waits for its end: who started this kills it as soon as all is said, and its forks with it.
        pool = ProcessPoolExecutor(processes, multiprocessing.get_context("fork"), initializer=_end_with_parent)
        futures = {pool.submit(shards.make, part): part for part in parts}
        _end_with_parent()
        for future in as_completed(futures):
            to.send((futures[future], future.result()))
    except BrokenProcessPool:
        os._exit(1)  # which closes the pipe
    except Exception as error:
        to.send((parts[0], error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()

    def end() -> None:
        if parent:
            parent.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def _rows(parts: Iterable[Rows]) -> int:
    return sum(last + 1 - first for first, last in parts)


@lru_cache(maxsize=1)
def _loaded(folder: Path, prompt: Prompt) -> ChatTemplate:
    from transformers import AutoTokenizer

    return ChatTemplate(AutoTokenizer.from_pretrained(folder, trust_remote_code=False), prompt)


def _read(path: Path, columns: list[str], first: int, last: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows from `first` to `last`, both included, a few at a time; row groups before them are not read."""
    with pq.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
        groups, start, skipped = [], 0, 0
        for number in range(file.num_row_groups):
            end = start + file.metadata.row_group(number).num_rows
            if end <= first:
                skipped = end
            elif start <= last:
                groups.append(number)
            start = end
        at = skipped
        for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=columns):
            low, high = max(first - at, 0), min(last + 1 - at, batch.num_rows)
            at += batch.num_rows
            if low < high:
                yield batch.slice(low, high - low).to_pylist()
            if at > last:
                return


def _remove_unused(tokens: UPath) -> None:
    """Remove the tokens of this application that no training asked for in a while."""
    oldest = (datetime.now(UTC) - KEPT).isoformat().encode()
    for name in names_in(tokens):
        if (read_bytes(tokens / name / "used") or b"") < oldest:
            log.info("%s: no training used these tokens for %d days, they are removed", tokens / name, KEPT.days)
            with suppress(OSError):  # another training may just begin to use them, or remove them too
                for part in names_in(tokens / name):
                    if (read_bytes(tokens / name / "used") or b"") >= oldest:
                        break
                    if part != "used":
                        drop(tokens / name / part)
                else:
                    drop(tokens / name)
