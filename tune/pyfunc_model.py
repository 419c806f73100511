"""What MLflow runs of a registered network. This file travels with the model, and the package dynamos beside it."""

from typing import Any

import numpy as np
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from dynamos.export import load

IMAGES_AT_A_TIME = 250


class GatedNetwork(PythonModel):
    """images (N, 3, H, W) in [0, 1] -> {"class": (N,), "logits": (N, K)}."""

    def load_context(self, context: PythonModelContext) -> None:
        """Reads the network."""
        self.network = load(context.artifacts["network"])

    # MLflow reads type hints of model_input as a schema; the model has one already.
    def predict(self, context: PythonModelContext, model_input, params: dict[str, Any] | None = None) -> Any:  # type: ignore[no-untyped-def]
        """The class of each image and the logits that say so."""
        images = torch.from_numpy(np.ascontiguousarray(model_input, dtype=np.float32))
        with torch.inference_mode():
            logits = torch.cat([self.network(part).logits for part in images.split(IMAGES_AT_A_TIME)])
        return {"class": logits.argmax(1).numpy(), "logits": logits.numpy()}


set_model(GatedNetwork())
