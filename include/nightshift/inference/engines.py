"""Which engine answers: the one that a model needs, that an application asks for, or the faster of those that this machine has.

Libraries are imported for the engine that runs alone: who asks an endpoint needs no torch.
"""

from __future__ import annotations

import json
from pathlib import Path

from nightshift.errors import BadInput
from nightshift.inference.engine import Engine, TokenEngine
from nightshift.inference.sequence import in_steps
from nightshift.settings.application import Application
from nightshift.settings.prompt import Prompt

ENDPOINT = "endpoint.json"  # in the folder of a model that somebody else runs: its url and model


def open_engine(
    folder: Path,
    application: Application,
    *,
    max_new_tokens: int | None = None,
    batch_rows: int = 1_000_000,
    in_batches: bool = False,
    logprobs: bool = False,
) -> Engine:
    """Return an engine with the model of a folder, which answers as the application asks it to.

    :param max_new_tokens: longest answer, where it is not that of the application's `inference`; rows that leave no room for
        it are not asked.
    :param batch_rows: prompts that are generated at once, at most.
    :param in_batches: the answers may take a day, where the application's endpoint is asked in batches.
    :param logprobs: whether answers tell how likely the model found them, which an endpoint does not.
    :raises BadInput: the model cannot be run by it, cannot keep to the decoding settings, or reads less than the longest answer.
    :raises BadEnvironment: the engine that is asked for is not there.
    """
    settings, decoding = application.inference, application.decoding
    most = settings.max_new_tokens if max_new_tokens is None else max_new_tokens
    if (folder / ENDPOINT).exists():
        from nightshift.inference.endpoint_engine import EndpointEngine

        identity = json.loads((folder / ENDPOINT).read_bytes())
        free = decoding.model_copy(update={"json_schema": None})  # the form is that of the application's answer

        def at_endpoint(prompt: Prompt) -> Engine:
            own = decoding if prompt.before == application.prompt.before else free
            asked = application.model_copy(update={"prompt": prompt, "decoding": own})
            # A batch of a later step would wait for a day for that of each part of the step before.
            batches = in_batches and not prompt.steps
            return EndpointEngine(identity, asked, max_new_tokens=most, in_batches=batches)

        return in_steps(application.prompt, at_endpoint)
    engine = open_token_engine(folder, application, max_new_tokens=most, batch_rows=batch_rows, logprobs=logprobs)
    if max_new_tokens is None and engine.longest <= most:
        raise BadInput(
            f"inference.max_new_tokens is {most}, but the model reads and writes at most "
            f"{engine.longest} tokens together"
        )
    return chat_engine(engine, application, max_new_tokens=most)


def chat_engine(engine: TokenEngine, application: Application, *, max_new_tokens: int) -> Engine:
    """Return an engine that answers conversations with one that takes token ids and was made for the same application.

    :raises BadInput: the model's chat template cannot be used.
    """
    from nightshift.inference.chat_engine import ChatEngine

    def answering_with(prompt: Prompt) -> Engine:
        return ChatEngine(engine, prompt, application.decoding, max_new_tokens=max_new_tokens)

    return in_steps(application.prompt, answering_with)


def open_token_engine(
    folder: Path, application: Application, *, max_new_tokens: int, batch_rows: int = 1_000_000, logprobs: bool = False
) -> TokenEngine:
    """Return what an engine with the model of a folder runs on, for who asks in token ids. An endpoint has none.

    :raises BadInput: the model cannot be run by it, or it cannot keep to the decoding settings.
    :raises BadEnvironment: the engine that is asked for is not there.
    """
    from nightshift.inference.vllm_engine import VllmEngine, missing

    settings, decoding = application.inference, application.decoding
    if settings.engine == "vllm" or (settings.engine == "auto" and missing() is None):
        return VllmEngine(
            folder, max_new_tokens=max_new_tokens, decoding=decoding, settings=settings, logprobs=logprobs
        )
    from nightshift.inference.model import load
    from nightshift.inference.transformers_engine import TransformersEngine

    return TransformersEngine(
        load(folder),
        max_new_tokens=max_new_tokens,
        batch_tokens=settings.batch_tokens,
        batch_rows=batch_rows,
        decoding=decoding,
        logprobs=logprobs,
    )
