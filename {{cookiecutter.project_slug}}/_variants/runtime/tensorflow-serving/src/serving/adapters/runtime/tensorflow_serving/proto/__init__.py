"""The messages of TensorFlow Serving: `prediction_service.proto`, and the stub that `make proto` writes beside it."""
