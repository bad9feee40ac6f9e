"""What the job `train` is given, and what it returns."""

from __future__ import annotations

from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.settings.training import TrainingSettings


class Spec(JobSpec):
    """The snapshot (URI and digest) to train on, from which model, and how."""

    snapshot: str
    digest: str
    base_model: str
    training: TrainingSettings
    # They say why, and have no part in what comes out.
    order: int | None = None  # of the ledger
    reason: str = ""


class Result(JobResult):
    """Where the model is, and the application version of it with the prompt and the settings that it was trained for.

    `train_tokens` counts the examples' tokens, `seconds` the optimiser steps of all attempts, and `processes` those of
    the last one on all nodes.
    """

    model: str
    digest: str
    version: str
    version_digest: str
    run_id: str
    run_url: str
    steps: int
    train_tokens: int
    tokens_per_second: float
    held_out_loss: float | None  # None: nothing was trained, and nobody measured it
    seconds: float
    processes: int
