"""One engine's answers to prompts and their times: `python answer_night.py transformers|vllm PROMPTS RESULT`.

Run with the Python of whoever is measured: vLLM's environment has nothing of the tests.
"""

import json
import sys
import time
from pathlib import Path

NEW_TOKENS = 48


def measure(who, source, target):
    """Answer the prompts in this process and write answers and times to the file `target`."""
    began = time.perf_counter()
    import torch

    from nightshift.inference import model, vllm_engine
    from nightshift.inference.transformers_engine import TransformersEngine
    from nightshift.settings.decoding import Decoding
    from nightshift.settings.policies import Inference

    given = json.loads(Path(source).read_text())
    model.fast_dtype = vllm_engine.fast_dtype = lambda: torch.float32
    folder, settings, decoding = Path(given["model"]), Inference(), Decoding()
    if who == "vllm":
        engine = vllm_engine.VllmEngine(folder, max_new_tokens=NEW_TOKENS, decoding=decoding, settings=settings)
    else:
        loaded = model.load(folder)
        engine = TransformersEngine(loaded, max_new_tokens=NEW_TOKENS, batch_tokens=settings.batch_tokens)
    started = time.perf_counter() - began
    engine.generate(given["prompts"][:8])  # the first pass of a process allocates
    cpu, wall = time.process_time(), time.perf_counter()
    answers = [answer.tokens for answer in engine.generate(given["prompts"])]
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    numbers = {"cpu_seconds": cpu, "wall_seconds": wall, "start_seconds": started, "answers": answers}
    Path(target).write_text(json.dumps({**numbers, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    measure(*sys.argv[1:])
