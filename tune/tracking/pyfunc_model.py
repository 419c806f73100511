"""MLflow code of a registered network.

This file travels with the model, and the package dynamos beside it.
"""

from typing import Any, NoReturn

import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from torch import Tensor

from dynamos.data import as_input
from dynamos.export import read
from dynamos.streams.names import data_of

IMAGES_AT_A_TIME = 250


class _Network:
    """The methods of GatedNetwork.

    MLflow looks for type hints only in a PythonModel itself, and warns without them.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Read the network."""
        config, self.network = read(context.artifacts["network"])
        self.white = data_of(config.dataset).white

    # MLflow reads a type hint of model_input as a schema, which would refuse convertible inputs.
    def predict(  # type: ignore[no-untyped-def]
        self, context: PythonModelContext, model_input, params: dict[str, Any] | None = None
    ) -> Any:
        """The class and the logits of each image; MlflowException for input that is not images."""
        images = self._images(model_input)
        with torch.inference_mode():
            logits = torch.cat(
                [self.network(part).logits for part in images.split(IMAGES_AT_A_TIME)]
            )
        return {"class": logits.argmax(1).numpy(), "logits": logits.numpy()}

    def _images(self, given: Any) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] of an array, a tensor or lists."""
        if isinstance(given, Tensor):
            given = given.detach().cpu()
            # numpy has no bfloat16
            given = given.float() if given.dtype == torch.bfloat16 else given
        try:
            images = np.asarray(given)
        except ValueError:
            self._refuse("lists of unequal lengths are not images")
        if images.dtype.kind != "f" and images.dtype != np.uint8:
            self._refuse(f"{type(given).__name__} of {images.dtype} is neither floats nor uint8")
        images = images[None] if images.ndim == 3 else images
        if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
            self._refuse(f"an array of shape {np.shape(given)} is not images")
        top = self.white if images.dtype == np.uint8 else 1
        least, most = images.min(), images.max()  # NaN where one value is
        if np.isnan(least):
            self._refuse("NaN is not a pixel value")
        if not (least >= 0 and most <= top):
            self._refuse(f"values from {least:g} to {most:g} lie outside 0 to {top}")
        if images.dtype != np.uint8:
            images = images.astype(np.float32)
        return as_input(torch.from_numpy(np.ascontiguousarray(images)), top)

    def _refuse(self, why: str) -> NoReturn:
        raise MlflowException.invalid_parameter_value(
            f"{why}; this model takes images (N, 3, H, W) or (3, H, W): floats from 0 to 1, or "
            f"uint8 from 0 to {self.white} as in its data set."
        )


class GatedNetwork(_Network, PythonModel):
    """images (N, 3, H, W) or one (3, H, W) -> {"class": (N,), "logits": (N, K)}.

    Floats lie in [0, 1]; uint8 pixels are as in the data set, up to `white`. Grey images may
    have one channel.
    """


set_model(GatedNetwork())
