"""Which engine answers: the one that an application asks for, or the faster of those that this machine has."""

from __future__ import annotations

from pathlib import Path

from nightshift.errors import BadInput
from nightshift.inference.engine import Engine, TransformersEngine
from nightshift.inference.model import load
from nightshift.inference.vllm_engine import VllmEngine, missing
from nightshift.settings.policies import Inference


def open_engine(folder: Path, settings: Inference) -> Engine:
    """Return an engine with the model of a folder loaded.

    :raises BadInput: the model cannot be run by it, or reads less than the longest answer.
    :raises BadEnvironment: the engine that is asked for is not there.
    """
    engine: Engine
    if settings.engine == "vllm" or (settings.engine == "auto" and missing() is None):
        engine = VllmEngine(folder, max_new_tokens=settings.max_new_tokens)
    else:
        engine = TransformersEngine(
            load(folder), max_new_tokens=settings.max_new_tokens, batch_tokens=settings.batch_tokens
        )
    if engine.longest <= settings.max_new_tokens:
        raise BadInput(
            f"inference.max_new_tokens is {settings.max_new_tokens}, but the model reads and writes at most "
            f"{engine.longest} tokens together"
        )
    return engine
