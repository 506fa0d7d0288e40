"""Golden rows: known questions with known answers, asked before the service says it is ready."""

from __future__ import annotations

import numpy as np

from serving.artifacts import Artifact
from serving.errors import ArtifactError
from serving.ports import ModelRuntime


async def replay(artifact: Artifact, runtime: ModelRuntime, *, timeout: float) -> None:
    """Ask the model its golden rows.

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
        agree = actual.shape == expected.shape and (
            np.allclose(actual, expected, rtol=rtol, atol=atol, equal_nan=True)
            if spec.datatype.is_float
            else np.array_equal(actual, expected)
        )
        if not agree:
            raise ArtifactError(
                f"artifact {artifact.digest}: golden rows answered {actual.ravel()[:4]} for output {spec.name}, "
                f"must be {expected.ravel()[:4]} (rtol {rtol}, atol {atol}); this model is not served."
            )
