"""The job `generate` as its own image runs it: with the Python of vLLM's environment, which has no Airflow."""

import os
import subprocess
from pathlib import Path

import pytest
from answered_intervals import parts_of

from nightshift.jobs import generate
from nightshift.jobs.contract import read_result
from nightshift.verdict import Verdict

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.nightly
def test_a_night_is_answered_by_vllm_as_by_transformers(night, champion, vllm_python, progress, tmp_path):
    import torch

    from nightshift.inference import model
    from nightshift.training.base_model import resolve_base_model

    champion(folder=resolve_base_model("smollm2-135m-instruct"))
    application = night["application"]
    settings = application.inference.model_copy(update={"engine": "vllm"})
    asked = {**night, "application": application.model_copy(update={"inference": settings})}
    spec = generate.Spec(**{**asked, "storage": (tmp_path / "other").as_uri()})
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    program = (
        "import sys, torch\nfrom nightshift.inference import vllm_engine\n"
        "vllm_engine.fast_dtype = lambda: torch.float32\n"
        "from nightshift.cli import main\nsys.exit(main())"
    )
    files = ["--spec", str(tmp_path / "spec.json"), "--result", str(tmp_path / "result.json")]
    run = subprocess.run(
        [vllm_python, "-c", program, "generate", *files],
        env={**os.environ, **generate.ENVIRONMENT, "PYTHONPATH": str(ROOT / "include"), "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-5000:]
    by_vllm = generate.Result.model_validate(read_result("generate", spec, str(tmp_path / "result.json")).result)
    assert by_vllm.verdict is Verdict.PASS

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(model, "fast_dtype", lambda: torch.float32)
        by_transformers = generate.run(generate.Spec(**night), progress)
    assert by_vllm.rows == by_transformers.rows == 25
    columns = ("row", "digest", "response", "tokens", "finish_reason")
    rows = [
        [{name: row[name] for name in columns} for _, part in parts_of(result).values() for row in part]
        for result in (by_vllm, by_transformers)
    ]
    assert rows[0] == rows[1]
    assert sum(row["tokens"] for row in rows[0]) > 100
