"""What runs beside the server: train, register, promote, materialize."""
