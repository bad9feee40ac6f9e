"""Versions in MLflow that share the weights of another one: they hold their prompt and settings, and refer to the weights.

MLflow loads such a version by :func:`_load_pyfunc`, so Nightshift must be installed where it is served.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

WHOLE, BORROWED = "whole", "borrowed.json"
MLMODEL = "MLmodel"


def without_weights(folder: Path) -> None:
    """Replace the weight files of a model folder by empty ones, so that packaging copies none."""
    for path in list(folder.glob("*.safetensors")):
        path.unlink()
        path.touch()


def borrow(package: Path, lender: str) -> Path:
    """Make a packaged model with empty weight files load the weights of another MLflow model.

    :param lender: address of the whole model, as `models:/m-…`.
    """
    from mlflow.models import Model

    files = [path for path in package.rglob("*.safetensors") if path.stat().st_size == 0]
    for path in files:
        path.unlink()
    whole = package / WHOLE
    whole.mkdir()
    model = Model.load(str(package / MLMODEL))
    shutil.move(package / MLMODEL, whole / MLMODEL)
    borrowed = {"lender": lender, "files": [path.relative_to(package).as_posix() for path in files]}
    (whole / BORROWED).write_text(json.dumps(borrowed, indent=1) + "\n", encoding="utf-8")
    pyfunc = model.flavors["python_function"]
    model.flavors = {"python_function": {**pyfunc, "loader_module": __name__, "data": WHOLE}}
    model.save(str(package / MLMODEL))
    return package


def _load_pyfunc(path: str, **_options: Any) -> Any:
    """Return the model made of the lender's weights and this version's own files."""
    import mlflow.artifacts
    import mlflow.pyfunc

    own = Path(path).parent
    borrowed = json.loads((own / WHOLE / BORROWED).read_bytes())
    # A loaded model needs no files; mapped ones stay until the process ends.
    with tempfile.TemporaryDirectory(prefix="nightshift-served-") as folder:
        weights = Path(
            mlflow.artifacts.download_artifacts(artifact_uri=borrowed["lender"], dst_path=str(Path(folder, "lender")))
        )
        together = Path(folder, "model")
        shutil.copytree(own, together)
        shutil.copy(own / WHOLE / MLMODEL, together / MLMODEL)
        for name in borrowed["files"]:
            (together / name).symlink_to(weights / name)
        return mlflow.pyfunc.load_model(str(together))
