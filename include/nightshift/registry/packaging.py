"""A trained model folder in MLflow's format: safetensors, tokenizer, card and requirements, nothing pickled.

The version loads back as a text-generation pipeline (`mlflow.transformers.load_model`) and as a chat model that speaks
OpenAI's format (`mlflow.pyfunc.load_model`, `mlflow models serve`). The weights are copied, never loaded.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from nightshift.errors import BadInput

TASK = "llm/v1/chat"
REQUIREMENTS = ("mlflow", "torch", "transformers", "accelerate", "safetensors", "tokenizers")
# Files that may run code when loaded.
UNSAFE = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth", ".py"}


def package_model(folder: Path, target: Path, logged: Any, card: str, lacks: str = "") -> Path:
    """Write the MLflow form of the model in `folder` to `target`, which must not exist, and return it.

    :param logged: the `LoggedModel` that this will be uploaded to.
    :param card: the model card, Markdown with front matter.
    :param lacks: what this format lacks compared with the version, for the metadata of the MLmodel file.
    :raises BadInput: the folder holds a file that may run code when it is loaded.
    """
    import mlflow.transformers
    from huggingface_hub import ModelCard
    from mlflow.models import Model
    from transformers import TextGenerationPipeline, pipelines

    unsafe = sorted(path.name for path in folder.rglob("*") if path.suffix in UNSAFE)
    if unsafe or not any(folder.glob("*.safetensors")):
        raise BadInput(
            f"{folder}: a model to register is safetensors and settings only; found {unsafe or 'no weights'}"
        )
    # MLflow 3.17 expects the pipeline's class here, Transformers 5.23 holds its name; Transformers takes either.
    pipelines.SUPPORTED_TASKS["text-generation"]["impl"] = TextGenerationPipeline
    mlflow.transformers.save_model(
        str(folder),
        str(target),
        task=TASK,
        model_card=ModelCard(card),
        metadata={"lacks": lacks} if lacks else None,
        # Given explicitly, or MLflow would load the model in another process to infer them.
        pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS],
        mlflow_model=Model(
            artifact_path=logged.artifact_location,
            model_uuid=logged.model_id,
            model_id=logged.model_id,
            run_id=logged.source_run_id,
        ),
    )
    return target
