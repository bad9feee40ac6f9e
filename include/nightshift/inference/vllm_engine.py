"""Answers by vLLM, on a machine with an NVIDIA GPU where the package is installed (`pip install vllm`)."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from nightshift.errors import BadEnvironment
from nightshift.inference.engine import Generated, Report
from nightshift.inference.model import end_tokens, longest_of
from nightshift.settings.decoding import Decoding

PROMPTS_AT_ONCE = 256  # between two reports; vLLM batches continuously within them


def missing() -> str | None:
    """Say what vLLM lacks on this machine, or None where it can run."""
    import torch

    if importlib.util.find_spec("vllm") is None:
        return "the package vllm is not installed"
    return None if torch.cuda.is_available() else "there is no CUDA GPU"


class VllmEngine:
    """Answers with vLLM's offline class; scheduling, paged keys and values and shared prefixes are its own.

    :raises BadEnvironment: the package or the GPU is missing.
    """

    name = "vllm"

    def __init__(self, folder: Path, *, max_new_tokens: int, decoding: Decoding) -> None:
        if lacks := missing():
            raise BadEnvironment(
                f"inference.engine is vllm, but {lacks}; run the job where it is, or set inference.engine: auto"
            )
        from transformers import AutoConfig, AutoTokenizer, GenerationConfig
        from vllm import LLM, SamplingParams  # type: ignore[import-not-found,unused-ignore]
        from vllm.sampling_params import StructuredOutputsParams  # type: ignore[import-not-found,unused-ignore]

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.longest = longest_of(AutoConfig.from_pretrained(folder))
        self._ends = end_tokens(self.tokenizer, GenerationConfig.from_pretrained(folder))
        # Where the model brings a generation config of its own, its penalties and temperatures are not the question.
        self._llm: Any = LLM(model=str(folder), generation_config="vllm", enable_prefix_caching=True, seed=0)
        self._drawn = decoding.temperature > 0
        form = {"json": decoding.json_schema} if decoding.json_schema is not None else {"regex": decoding.regex}
        self._parameters = SamplingParams(
            max_tokens=max_new_tokens,
            stop_token_ids=sorted(self._ends),
            detokenize=bool(decoding.stop),
            stop=decoding.stop,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            repetition_penalty=decoding.repetition_penalty,
            frequency_penalty=decoding.frequency_penalty,
            presence_penalty=decoding.presence_penalty,
            structured_outputs=StructuredOutputsParams(**form) if decoding.constraint else None,
        )
        self.device = "cuda"
        self.precision = str(self._llm.llm_engine.model_config.dtype).removeprefix("torch.")

    def generate(
        self,
        prompts: Sequence[list[int]],
        report: Report = lambda done, of: None,
        *,
        seeds: Sequence[int] | None = None,
        wanted: Sequence[list[int]] | None = None,
    ) -> list[Generated]:
        """Return the answers in the order of the prompts, as :class:`TokenEngine` says; wanted answers are not measured."""
        parameters = [self._parameters] * len(prompts)
        if seeds and self._drawn:
            parameters = [self._parameters.clone() for _ in prompts]
            for own, seed in zip(parameters, seeds, strict=True):
                own.seed = seed
        results: list[Generated] = []
        for start in range(0, len(prompts), PROMPTS_AT_ONCE):
            began = time.perf_counter()
            asked = [{"prompt_token_ids": prompt} for prompt in prompts[start : start + PROMPTS_AT_ONCE]]
            outputs = self._llm.generate(asked, parameters[start : start + PROMPTS_AT_ONCE], use_tqdm=False)
            milliseconds = (time.perf_counter() - began) * 1000
            for output in outputs:
                answer = output.outputs[0]
                tokens = [token for token in answer.token_ids if token not in self._ends]
                reason: Literal["stop", "length"] = "length" if answer.finish_reason == "length" else "stop"
                results.append(Generated(tokens, reason, milliseconds))
            report(len(results), len(prompts))
        return results
