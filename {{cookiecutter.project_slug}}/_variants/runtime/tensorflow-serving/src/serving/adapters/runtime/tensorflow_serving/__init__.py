"""Run a model in TensorFlow Serving, over gRPC."""
