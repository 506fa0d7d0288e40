"""The wire protocol: `open_inference.proto`, and the stubs that `make proto` writes beside it."""
