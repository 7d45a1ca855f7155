"""Train trials: data, models and the training loop. The only package that imports torch; it knows nothing of Ray."""
