"""The commands' command lines; the composition root that opens a model registry is here, the server's is not."""
