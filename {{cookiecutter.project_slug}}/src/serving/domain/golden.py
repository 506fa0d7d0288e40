"""Golden rows: inputs with known outputs, replayed before the service reports ready."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from serving.domain.artifacts import Artifact, GoldenRows
from serving.domain.errors import ArtifactError
from serving.domain.ports import ModelRuntime
from serving.domain.tensors import Tensor, TensorSpec


async def replay(artifact: Artifact, runtime: ModelRuntime, *, timeout: float) -> None:
    """Run the model on its golden rows and compare.

    :raises ArtifactError: an answer is missing, or differs by more than the tolerance that the artifact states
    """
    answers = await runtime.predict(artifact.golden_inputs(), timeout=timeout)
    rtol, atol = artifact.golden.rtol, artifact.golden.atol
    for spec in artifact.manifest.outputs:
        expected, actual = artifact.golden_outputs()[spec.name], answers.get(spec.name)
        if actual is None:
            raise ArtifactError(
                f"artifact {artifact.digest}: the model gives no output {spec.name}, which its manifest declares; "
                "this model is not served."
            )
        if actual.shape != expected.shape or not agreeing(actual, expected, spec, artifact.golden).all():
            raise ArtifactError(
                f"artifact {artifact.digest}: golden rows answered {actual.ravel()[:4]} for output {spec.name}, "
                f"must be {expected.ravel()[:4]} (rtol {rtol}, atol {atol}); this model is not served."
            )


def agreeing(actual: Tensor, expected: Tensor, spec: TensorSpec, golden: GoldenRows) -> npt.NDArray[np.bool_]:
    """Return, for each row of two tensors of the same shape, whether they agree within the golden rows' tolerance."""
    same = (
        np.isclose(actual, expected, rtol=golden.rtol, atol=golden.atol, equal_nan=True)
        if spec.datatype.is_float
        else np.equal(actual, expected)
    )
    return np.array([np.all(row) for row in same], np.bool_)
