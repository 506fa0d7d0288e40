"""The part you edit: features, data, estimator. Nothing here knows how it is served."""
