"""Run trials: Ray Tune, ASHA and resources. The only package that imports ray."""
