"""Run a model in TensorFlow Serving: `PredictionService.Predict`, for one version and no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import grpc

from serving.adapters.runtime.tensorflow_serving.development import DevelopmentServer
from serving.adapters.runtime.tensorflow_serving.proto import prediction_service_pb2 as pb
from serving.adapters.runtime.tensorflow_serving.settings import address
from serving.adapters.runtime.tensorflow_serving.tensors import from_proto, to_proto
from serving.domain.artifacts import Artifact
from serving.domain.deadline import waited_for_outage
from serving.domain.errors import DeadlineExceeded, ModelFailed, NotReady, quoted
from serving.domain.tensors import Tensors, TensorSpec

log = logging.getLogger(__name__)

PREDICT = "/tensorflow.serving.PredictionService/Predict"
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""It does not answer, or cut the call as it stopped."""
_AWAY = (*_GONE, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION)
"""Gone, or without this version: not loaded yet, or unloaded."""
_POLL_S = 0.2
_PATIENCE_S = 3.0
"""For so long after the last answer calls wait for a restart; our client's retries alone bridge less than a second."""
_LARGEST_MESSAGE = 256 << 20
# As in the client: resolve again and reconnect within seconds, and notice a peer that is gone without a word.
_OPTIONS = (
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.enable_retries", 0),  # the caller's client retries
    # Docker passes its own proxy to every container, and gRPC would ask it for a name that only this network knows.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
    ("grpc.max_send_message_length", _LARGEST_MESSAGE),
)


def version_of(digest: str) -> int:
    """Return an artifact's version in TensorFlow Serving: the first 63 bits of its digest, so no other model has it."""
    return int(digest.removeprefix("sha256=")[:16], 16) >> 1


class TensorFlowServing:
    """Ask TensorFlow Serving for one version of one model.

    Until it has answered once, calls wait for it. Later an outage of `patience` seconds is waited for, too; calls after
    that are refused at once, so that an outage does not fill the server with waiting calls.
    """

    concurrency = 64  # it batches and queues by itself; this bounds how much waits there

    def __init__(
        self,
        target: str,
        model: str,
        version: int,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        beside: DevelopmentServer | None = None,
        patience: float = _PATIENCE_S,
    ) -> None:
        self._target = target
        self._name = model
        self._version = version
        self._inputs = inputs
        self._outputs = outputs
        self._beside = beside
        self._channel: grpc.aio.Channel | None = None
        self._patience = patience
        self._answered = False
        self._away_since: float | None = None
        self._failed_at = 0.0
        self._closed = False

    @classmethod
    def load(cls, artifact: Artifact, *, threads: int) -> TensorFlowServing:
        """Connect to where the model is served; `threads` is TensorFlow Serving's own setting.

        :raises SettingsError: config/runtime.toml and SERVING_RUNTIME_URL do not say where that is
        """
        manifest = artifact.manifest
        version, target, beside = version_of(artifact.digest), address(), None
        if not target:
            beside = DevelopmentServer(manifest.model, version, artifact.model)
            target = beside.address
        inputs = [feature.spec for feature in manifest.features.model_inputs]
        return cls(target, manifest.model, version, inputs, manifest.outputs, beside)

    async def warm_up(self, inputs: Tensors, max_rows: int) -> None:
        """Do nothing: the golden rows have been answered before."""

    async def predict(self, inputs: Tensors, *, timeout: float) -> Tensors:
        """Run the model on one batch.

        :raises NotReady: TensorFlow Serving does not answer, or does not have this version
        """
        request = pb.PredictRequest(
            model_spec=pb.ModelSpec(
                name=self._name, version=pb.Int64Value(value=self._version), signature_name="serving_default"
            ),
            inputs={spec.name: to_proto(inputs[spec.name], spec) for spec in self._inputs},
            output_filter=[spec.name for spec in self._outputs],
        )
        loop = asyncio.get_running_loop()
        arrived = asked = loop.time()
        deadline = arrived + timeout
        while True:
            try:
                response = await self._call(request, deadline - asked, timeout)
                break
            except NotReady as error:
                await self._wait_or_refuse(error, deadline, timeout)
                asked = loop.time()
        self._answered, self._away_since = True, None
        waited_for_outage(asked - arrived)
        return self._outputs_of(response)

    async def close(self) -> None:
        """Close the channel; safe to call twice."""
        self._closed = True
        if self._channel:
            await self._channel.close()
            self._channel = None
        if self._beside:
            await asyncio.to_thread(self._beside.close)
            self._beside = None

    async def _call(self, request: pb.PredictRequest, left: float, timeout: float) -> pb.PredictResponse:
        if self._closed:
            raise ModelFailed("the model was closed before it answered.")
        if self._channel is None:  # made here, since a channel belongs to an event loop
            self._channel = grpc.aio.insecure_channel(self._target, _OPTIONS)
        method = self._channel.unary_unary(
            PREDICT,
            request_serializer=pb.PredictRequest.SerializeToString,
            response_deserializer=pb.PredictResponse.FromString,
        )
        try:
            response: pb.PredictResponse = await method(request, timeout=left)
        except grpc.aio.AioRpcError as error:
            where = f"TensorFlow Serving at {self._target}"
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise DeadlineExceeded(f"the model did not answer within {timeout:.3f} s.") from None
            if error.code() in _AWAY:
                what = "does not answer" if error.code() in _GONE else "does not have"
                object_ = "" if error.code() in _GONE else f" {self._name} {self._version}"
                cause = quoted(error.details(), 200)
                raise NotReady(f"{where} {what}{object_}; the model can't be asked now ({cause}).") from error
            raise ModelFailed(f"{where}: {error.code().name}: {quoted(error.details(), 200)}.") from error
        answered = response.model_spec
        if (answered.name, answered.version.value) != (self._name, self._version):
            raise NotReady(
                f"TensorFlow Serving at {self._target} answered as {quoted(answered.name)} {answered.version.value}, "
                f"must be {self._name} {self._version}; that answer is not used."
            )
        return response

    async def _wait_or_refuse(self, error: NotReady, deadline: float, timeout: float) -> None:
        """Wait a moment if it is worth another try, else raise."""
        now = asyncio.get_running_loop().time()
        if self._away_since is None or now - self._failed_at > self._patience:  # that outage ended unseen
            self._away_since = now
            log.log(logging.WARNING if self._answered else logging.INFO, "waiting: %s", error)
        self._failed_at = now
        if self._beside and (failure := self._beside.failure()):
            raise ModelFailed(f"the development server has ended: {failure}.") from error
        if self._answered:
            deadline = min(deadline, self._away_since + self._patience)
        if deadline - now < _POLL_S:
            if self._answered:
                raise error
            raise NotReady(f"{str(error).rstrip('.')}, for {timeout:.0f} s.") from error
        await asyncio.sleep(_POLL_S)

    def _outputs_of(self, response: pb.PredictResponse) -> Tensors:
        missing = [spec.name for spec in self._outputs if spec.name not in response.outputs]
        if missing:
            raise ModelFailed(f"TensorFlow Serving gave no output {missing[0]}.")
        return {spec.name: from_proto(response.outputs[spec.name], spec) for spec in self._outputs}
