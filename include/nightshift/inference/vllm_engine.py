"""Answers by vLLM: on NVIDIA GPUs, or on processors with its CPU build. It has an environment of its own (docs/vllm.md).

vLLM does the scheduling, paged attention and prefix caching. This module keeps its queue filled, so that no step waits for the
slowest of a batch, and passes the application's decoding settings.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from nightshift.errors import BadEnvironment, BadInput
from nightshift.inference.adapter import CONFIG, INSTEAD, WEIGHTS
from nightshift.inference.engine import Continuation, Generated, Report
from nightshift.inference.model import end_tokens, fast_dtype
from nightshift.settings.decoding import Decoding
from nightshift.settings.policies import Inference

IN_FLIGHT = 2048  # requests in vLLM's queue: more than it answers at once, with little memory


def missing() -> str | None:
    """Return what vLLM lacks on this machine, or None if it can run."""
    if importlib.util.find_spec("vllm") is None:
        return "the package vllm is not installed"
    return None if torch.cuda.is_available() or _is_cpu_build() else "there is no CUDA GPU, and it is not the CPU build"


def tensor_parallel(gpus: int, heads: int, key_heads: int) -> int:
    """Return how many of the GPUs can share one model: the largest number that divides its attention heads."""
    fits = (n for n in range(max(1, gpus), 0, -1) if heads % n == 0 and (key_heads % n == 0 or n % key_heads == 0))
    return next(fits)


class VllmEngine:
    """Answers with vLLM's synchronous engine: in this process on a processor, in processes of its own on GPUs.

    :param folder: a model's, or with `settings.vllm.adapters` that of an adapter which names its base model.
    :param settings: `vllm` has its options; `batch_tokens` bounds the keys and values on a processor.
    :param logprobs: whether answers have their log-probability.
    :raises BadEnvironment: the package, or its hardware, is missing.
    :raises BadInput: it cannot run the model with these settings.
    """

    name = "vllm"

    def __init__(
        self, folder: Path, *, max_new_tokens: int, decoding: Decoding, settings: Inference, logprobs: bool = False
    ) -> None:
        if lacks := missing():
            raise BadEnvironment(
                f"inference.engine is vllm, but {lacks}; run the job where vLLM is available, or set inference.engine: auto"
            )
        from transformers import AutoConfig, AutoTokenizer, GenerationConfig

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self._ends = end_tokens(self.tokenizer, GenerationConfig.from_pretrained(folder))
        self._decoding = decoding
        self._engine: Any = _start(folder, AutoConfig.from_pretrained(folder).get_text_config(), settings)
        self._adapter = _adapter(self._engine, folder) if settings.vllm.adapters else None
        # A measured answer is part of the prompt, after which vLLM always generates a token.
        self.longest = int(self._engine.model_config.max_model_len) - 1
        self._parameters = _parameters(decoding, max_new_tokens, sorted(self._ends), logprobs)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.precision = str(self._engine.model_config.dtype).removeprefix("torch.")

    def generate(
        self,
        prompts: Sequence[list[int]],
        report: Report = lambda done, of: None,
        *,
        seeds: Sequence[int] | None = None,
        references: Sequence[list[int]] | None = None,
    ) -> list[Generated]:
        """Return the answers in the order of the prompts, as :class:`TokenEngine` says.

        :raises BadInput: vLLM cannot apply the decoding constraint.
        """
        losses = self._losses(prompts, references) if references else {}
        drawn = seeds if seeds and self._decoding.temperature else [self._decoding.seed] * len(prompts)
        # Equal prompts are answered once, unless tokens are drawn.
        places: dict[tuple[tuple[int, ...], int], list[int]] = {}
        for place, (prompt, seed) in enumerate(zip(prompts, drawn, strict=True)):
            places.setdefault((tuple(prompt), seed), []).append(place)
        asked = ((list(prompt), self._with_seed(seed)) for prompt, seed in places)
        where, done = list(places.values()), 0
        results: dict[int, Generated] = {}
        for number, output in self._run(asked):
            answer, times = output.outputs[0], output.metrics
            reason: Literal["stop", "length"] = "length" if answer.finish_reason == "length" else "stop"
            tokens = [token for token in answer.token_ids if token not in self._ends]
            total = answer.cumulative_logprob
            mean = None if total is None else total / max(1, len(answer.token_ids))
            milliseconds = (times.last_token_ts - times.scheduled_ts) * 1000
            for place in where[number]:
                results[place] = Generated(tokens, reason, milliseconds, losses.get(place), mean)
            done += len(where[number])
            report(done, len(prompts))
        return [results[place] for place in range(len(prompts))]

    def _losses(self, prompts: Sequence[list[int]], references: Sequence[list[int]]) -> dict[int, float]:
        places = [place for place, answer in enumerate(references) if answer]
        asked = [Continuation([*prompts[place], *references[place]], len(prompts[place])) for place in places]
        return {place: -found for place, found in zip(places, self.likelihoods(asked), strict=True)}

    def likelihoods(self, sequences: Sequence[Continuation], report: Report = lambda done, of: None) -> list[float]:
        """Return how likely each continuation is, in the order given, as :class:`TokenEngine` says.

        The continuation is read as a prompt, so decoding settings do not matter.
        """
        from vllm import SamplingParams

        measured = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
        found: dict[int, float] = {}
        for number, output in self._run((sequence.tokens, measured) for sequence in sequences):
            one = sequences[number]
            tokens = zip(one.tokens[one.start :], output.prompt_logprobs[one.start :], strict=True)
            found[number] = sum(chances[token].logprob for token, chances in tokens)
            report(len(found), len(sequences))
        return [found[number] for number in range(len(sequences))]

    def _with_seed(self, seed: int) -> Any:
        if not self._decoding.temperature:
            return self._parameters
        own = self._parameters.clone()
        own.seed = seed
        return own

    def _run(self, asked: Iterator[tuple[list[int], Any]]) -> Iterator[tuple[int, Any]]:
        """Yield the number of each prompt with its result when it is done, and add the next prompt."""
        waiting = enumerate(asked)
        while True:
            room = IN_FLIGHT - self._engine.get_num_unfinished_requests()
            for number, (prompt, parameters) in islice(waiting, room):
                self._add(str(number), prompt, parameters)
            if not self._engine.has_unfinished_requests():
                return
            for output in self._engine.step():
                if output.finished:
                    yield int(output.request_id), output

    def _add(self, name: str, prompt: list[int], parameters: Any) -> None:
        from vllm.exceptions import VLLMClientError
        from vllm.inputs import tokens_input

        try:
            self._engine.add_request(name, tokens_input(prompt), parameters, lora_request=self._adapter)
        except (VLLMClientError, ValueError) as error:
            what = f"decoding.{self._decoding.constraint}" if self._decoding.constraint else "the decoding settings"
            raise BadInput(f"vLLM cannot apply {what}: {error}") from error


def _start(folder: Path, config: Any, settings: Inference) -> Any:
    gc.collect()  # frees the memory of an earlier engine that is no longer referenced
    on_gpu, given = torch.cuda.is_available(), settings.vllm
    heads = int(config.num_attention_heads)
    key_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    parallel = given.tensor_parallel or (tensor_parallel(torch.cuda.device_count(), heads, key_heads) if on_gpu else 1)
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_CONFIGURE_LOGGING", "0")  # use the job's logging
    # Without a GPU one process is enough.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1" if on_gpu or parallel > 1 else "0"
    if not on_gpu:  # by default vLLM binds to cores that other jobs use, too, or uses one thread
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // parallel)))
        # The image for processors has no compiler, which vLLM would need for the log-probabilities of a prompt.
        torch.compiler.set_stance("force_eager")
        os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")  # the same in processes of vLLM's own

    from vllm import EngineArgs, LLMEngine
    from vllm.config import StructuredOutputsConfig
    from vllm.exceptions import VLLMClientError
    from vllm.usage.usage_lib import UsageContext

    dtype = fast_dtype()
    size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    bytes_per_token = 2 * int(config.num_hidden_layers) * key_heads * size * dtype.itemsize
    memory = (
        {"gpu_memory_utilization": given.memory_share}
        if on_gpu
        else {"kv_cache_memory_bytes": settings.batch_tokens * bytes_per_token // parallel, "enforce_eager": True}
    )
    arguments = {
        "model": str(folder),
        # Penalties and temperatures of the model's own generation config must not apply.
        "generation_config": "vllm",
        "load_format": "safetensors",
        "dtype": dtype,
        "seed": 0,
        "tensor_parallel_size": parallel,
        "max_model_len": given.max_model_len or -1,
        "enable_prefix_caching": True,
        "disable_log_stats": False,  # they hold how long each answer took
        # Small models fill an answer with blank lines where JSON allows them.
        "structured_outputs_config": StructuredOutputsConfig(backend="guidance", disable_any_whitespace=True),
        **memory,
        **(_with_adapter(folder) if given.adapters else {}),
        **given.arguments,
    }
    try:
        return LLMEngine.from_engine_args(EngineArgs(**arguments), usage_context=UsageContext.LLM_CLASS)
    except (TypeError, ValueError, VLLMClientError) as error:
        raise BadInput(f"vLLM cannot run the model with these settings of inference.vllm: {error}") from error


def _with_adapter(folder: Path) -> dict[str, Any]:
    """The arguments with which vLLM loads the base model of an adapter, and has room for that."""
    from safetensors import safe_open
    from vllm.config.lora import MaxLoRARanks

    config = json.loads((folder / CONFIG).read_bytes())
    with safe_open(folder / WEIGHTS, framework="numpy") as file:
        changed = {name.split(".lora_")[0].rpartition(".")[2] for name in file.keys()}  # noqa: SIM118
    return {
        "model": config["base_model_name_or_path"],
        "tokenizer": str(folder),
        "enable_lora": True,
        "max_lora_rank": min(rank for rank in get_args(MaxLoRARanks) if rank >= config["r"]),
        # Else vLLM prepares the output layer, too, and then fails at the likelihoods of a prompt (0.32 on processors).
        "lora_target_modules": sorted(changed),
    }


def _adapter(engine: Any, folder: Path) -> Any:
    """Load an adapter, so that one that vLLM refuses is known before the first prompt; return what requests name it by."""
    from vllm.lora.request import LoRARequest

    request = LoRARequest(lora_name="adapter", lora_int_id=1, lora_path=str(folder))
    try:
        engine.add_lora(request)
    except Exception as error:  # processes of vLLM's own send their errors as this
        raise BadInput(f"vLLM cannot serve the adapter: {error}; {INSTEAD}") from error
    return request


def _parameters(decoding: Decoding, max_new_tokens: int, ends: list[int], logprobs: bool) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    form = {"json": decoding.json_schema} if decoding.json_schema is not None else {"regex": decoding.regex}
    return SamplingParams(
        max_tokens=max_new_tokens,
        logprobs=0 if logprobs else None,  # none but the token's own
        stop_token_ids=ends,
        detokenize=bool(decoding.stop),
        stop=decoding.stop,
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        repetition_penalty=decoding.repetition_penalty,
        frequency_penalty=decoding.frequency_penalty,
        presence_penalty=decoding.presence_penalty,
        structured_outputs=StructuredOutputsParams(**form) if decoding.constraint else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _is_cpu_build() -> bool:
    """Whether the package is vLLM for processors: `vllm-cpu` of the package index, or the project's own `…+cpu`."""
    with suppress(PackageNotFoundError):
        return version("vllm").endswith("+cpu")
    return True
