"""Questions to the engine `vllm`, asked with the Python of its environment: `python vllm_answers.py QUESTIONS ANSWERS`.

Each question is a model folder with prompts and settings; the answers are those of engines made one after the other.
"""

import json
import sys
from pathlib import Path


def main(questions, answers):
    import torch

    from nightshift.errors import BadInput
    from nightshift.inference import vllm_engine
    from nightshift.inference.engine import Continuation
    from nightshift.settings.decoding import Decoding
    from nightshift.settings.policies import Inference

    vllm_engine.fast_dtype = lambda: torch.float32  # a machine that multiplies bf16 would answer a little differently
    found = []
    for question in json.loads(Path(questions).read_text()):
        told = []
        ways = {name: question[name] for name in ("seeds", "references") if name in question}
        try:
            engine = vllm_engine.VllmEngine(
                Path(question["model"]),
                max_new_tokens=question["most"],
                decoding=Decoding.model_validate(question.get("decoding", {})),
                settings=Inference.model_validate(question.get("settings", {})),
                logprobs=True,
            )
            said = engine.generate(question["prompts"], lambda done, of, told=told: told.append((done, of)), **ways)
            likelihoods = engine.likelihoods([Continuation(*one) for one in question.get("continuations", [])])
        except BadInput as error:
            found.append({"refused": str(error)})
        else:
            rows = [[one.tokens, one.finish_reason, one.latency_ms, one.reference_loss, one.logprob] for one in said]
            facts = {"longest": engine.longest, "device": engine.device, "precision": engine.precision}
            facts["likelihoods"] = likelihoods
            found.append({"rows": rows, "told": told, **facts})
        engine = None  # its memory is given up before there is another
    Path(answers).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
