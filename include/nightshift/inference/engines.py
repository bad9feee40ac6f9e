"""Chooses the engine: the one that a model needs or an application configures, or the fastest on this machine.

Only the chosen engine's libraries are imported: an endpoint needs no torch.
"""

from __future__ import annotations

import json
from pathlib import Path

from nightshift.errors import BadInput
from nightshift.inference.engine import Engine, TokenEngine
from nightshift.inference.sequence import in_steps
from nightshift.settings.application import Application
from nightshift.settings.prompt import Prompt

ENDPOINT = "endpoint.json"  # in the folder of a hosted model: its url and model


def open_engine(
    folder: Path,
    application: Application,
    *,
    max_new_tokens: int | None = None,
    batch_rows: int = 1_000_000,
    in_batches: bool = False,
    logprobs: bool = False,
) -> Engine:
    """Return an engine with the model of a folder and the application's settings.

    :param max_new_tokens: longest answer, if not that of the application's `inference`; rows that leave no room for it are
        not asked.
    :param batch_rows: most prompts that are generated at once.
    :param in_batches: use the endpoint's batches if the application has them; the answers may take a day.
    :param logprobs: whether responses have their log-probability; endpoints do not report it.
    :raises BadInput: the engine cannot run the model or apply the decoding settings, or the model's context is too short.
    :raises BadEnvironment: the configured engine is missing.
    """
    settings, decoding = application.inference, application.decoding
    most = settings.max_new_tokens if max_new_tokens is None else max_new_tokens
    if (folder / ENDPOINT).exists():
        from nightshift.inference.endpoint_engine import EndpointEngine

        identity = json.loads((folder / ENDPOINT).read_bytes())
        free = decoding.model_copy(update={"json_schema": None})  # the schema applies to the application's answer only

        def at_endpoint(prompt: Prompt) -> Engine:
            own = decoding if prompt.before == application.prompt.before else free
            asked = application.model_copy(update={"prompt": prompt, "decoding": own})
            # Batches of a later step would wait a day for those of the step before.
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
    """Return a chat engine on top of a token engine that was made for the same application.

    :raises BadInput: the model's chat template cannot be used.
    """
    from nightshift.inference.chat_engine import ChatEngine

    def answering_with(prompt: Prompt) -> Engine:
        return ChatEngine(engine, prompt, application.decoding, max_new_tokens=max_new_tokens)

    return in_steps(application.prompt, answering_with)


def open_token_engine(
    folder: Path, application: Application, *, max_new_tokens: int, batch_rows: int = 1_000_000, logprobs: bool = False
) -> TokenEngine:
    """Return a token engine with the model of a folder; endpoints have none.

    :raises BadInput: the engine cannot run the model or apply the decoding settings.
    :raises BadEnvironment: the configured engine is missing.
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
