"""What MLflow runs to load a served model: images in, masks out.

This file and those that it imports are copied into each logged model, under a package name of
their own (see `bundle`), so that a served model needs no installation of segbench.
"""

import json
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel

from segbench.errors import InputError
from segbench.serving.answers import FORMS, answer
from segbench.serving.predictor import Predictor
from segbench.serving.requests import Reader, images_of


class BadRequest(MlflowException):  # type: ignore[misc]
    """HTTP 400 with one line.

    MLflow puts all of the request in front of a message, images included; this one stays as it is.
    """

    def __init__(self, line: str) -> None:
        super().__init__(line, error_code=INVALID_PARAMETER_VALUE)

    def serialize_as_json(self) -> str:
        """The body of the answer."""
        return json.dumps({**json.loads(super().serialize_as_json()), "message": str(self)})


class Segmentation(PythonModel):  # type: ignore[misc]
    """Images to masks.

    Requests are checked here, in one line that names the image, and not by MLflow, whose checks of
    type hints know no arrays and quote the request.
    """

    _skip_type_hint_validation = True

    def load_context(self, context: Any) -> None:
        """Open the network. `model_config` holds `images` (most in a request) and `threads` (0: all
        cores)."""
        config = context.model_config
        with open(context.artifacts["data"], encoding="utf-8") as file:
            data = json.load(file)
        self.predictor = Predictor(context.artifacts["network"], int(config["threads"]))
        self.reader = Reader(data, self.predictor.about["channels"])
        self.data = data
        self.most = int(config["images"])

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[Any]:
        """An answer for each image, see `answers`.

        Args:
            model_input: a list of images: base64 of a file, or pixels as nested lists; here also
                bytes of a file, an array, and a table whose first column holds images.
            params: `output`, one of `answers.FORMS`.

        Raises:
            BadRequest: if an image cannot be used.
        """
        form = (params or {}).get("output", FORMS[0])
        try:
            if form not in FORMS:
                raise InputError(f"output '{form}' is not known; choose one of {', '.join(FORMS)}")
            found = []
            for at, image in enumerate(images_of(model_input, self.most)):
                pixels = self.reader.read(image, f"image {at}")
                found.append(answer(form, self.predictor.predict(pixels, f"image {at}"), self.data))
        except InputError as mistake:
            raise BadRequest(str(mistake)) from None
        return found


set_model(Segmentation())
