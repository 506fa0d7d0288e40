"""Run a packed model in a thread of this process."""

from __future__ import annotations

from collections.abc import Callable

from serving.adapters.runtime.dispatcher import Dispatcher, Stop
from serving.adapters.runtime.python.libraries import LIBRARIES
from serving.adapters.runtime.python.packed import unpack
from serving.adapters.runtime.python.predictor import Predictor
from serving.adapters.runtime.python.settings import Opening, runtime_settings
from serving.domain.artifacts import Artifact
from serving.domain.errors import ArtifactError, InvalidRequest, ModelFailed, ServingError, quoted
from serving.domain.tensors import Tensors


class Unheard:
    """A stop that no Python library looks at."""

    terminate = False


class PythonRuntime:
    """Run one call at a time, off the event loop: few libraries say that a model may run twice at once.

    A library that keeps the interpreter's lock delays the event loop all the same; scale out with replicas. A call of
    Python can't be ended: if it outlives the longest call, the server ends.
    """

    concurrency = 1

    def __init__(self, predict: Callable[[Tensors], Tensors]) -> None:
        self._predict = predict
        self._worker = Dispatcher(self._run, Unheard)  # never measured, so that no call runs on the event loop

    @classmethod
    def load(cls, artifact: Artifact, *, threads: int) -> PythonRuntime:
        """Load a packed model; scikit-learn's own parallel parts do not follow `threads`.

        :raises ArtifactError: the library is not installed, refuses the model, or may not open it
        """
        description, content = unpack(artifact.model)
        where = f"artifact {artifact.digest}"
        library = LIBRARIES.get(description.library)
        if library is None:
            raise ArtifactError(
                f"{where}: was written by {quoted(description.library)}; this repo reads {', '.join(LIBRARIES)}."
            )
        try:
            estimator = library.load(content, Opening(description, runtime_settings(), threads))
        except ArtifactError as error:
            raise ArtifactError(f"{where}: {error}") from error
        except ModuleNotFoundError as error:
            raise ArtifactError(
                f"{where}: needs the package of {error.name}; add it to model/requirements.in and run `make lock`."
            ) from error
        except ServingError:
            raise
        except Exception as error:  # libraries raise whatever they like
            raise ArtifactError(f"{where}: {description.library} refuses the model ({quoted(error, 200)}).") from error
        return cls(Predictor(estimator, description.asks, artifact.manifest, frame=library.takes_frame))

    async def warm_up(self, inputs: Tensors, max_rows: int) -> None:
        """Run the model once: the first call of a library allocates."""
        self._run(inputs, Unheard())

    async def predict(self, inputs: Tensors, *, timeout: float) -> Tensors:
        """Run the model on one batch."""
        return await self._worker.run(inputs, timeout=timeout)

    async def close(self) -> None:
        """Accept no more work; do not wait for a running call."""
        self._worker.close()

    def _run(self, inputs: Tensors, stop: Stop) -> Tensors:
        try:
            return self._predict(inputs)
        except (InvalidRequest, ModelFailed):
            raise
        except Exception as error:  # libraries raise whatever they like
            raise ModelFailed(f"{type(error).__name__}: {error}") from error
