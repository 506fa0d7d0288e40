"""The part you edit: data, features, signature, predictor, training. Nothing here knows how it is served."""
