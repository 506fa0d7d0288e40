"""What online and batch share: the features of rows, the substitutes for missing ones, the call of the model."""
