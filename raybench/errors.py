"""Every exception that raybench raises on purpose.

::

    RaybenchError                 anything a user can act on; the message is the whole story
    ├── InputError                bad input: nothing was started (exit status 2)
    │   ├── ExperimentError       a key of an experiment file
    │   ├── DataError             a dataset: missing, empty, unreadable, mislabelled
    │   ├── WeightsError          weights: missing, offline, mismatched
    │   ├── ModelError            a model: unknown, without a head, too small an image
    │   └── RunError              a run directory: unreadable, of another experiment, unknown trial
    ├── StorageError              a file cannot be written: disk full, read-only, gone (exit status 2)
    └── InterruptedRunError       Ctrl-C: what was finished is kept (exit status 130)
"""


class RaybenchError(Exception):
    """Base of all errors that raybench raises on purpose."""


class InputError(RaybenchError):
    """Bad input, found before anything was started."""


class ExperimentError(InputError):
    """A key of an experiment file is missing, unknown or has a value that cannot be used."""


class DataError(InputError):
    """A dataset is missing, empty, unreadable or mislabelled."""


class WeightsError(InputError):
    """Weights are missing, cannot be had offline or do not fit the model."""


class ModelError(InputError):
    """A model is unknown, has no head to replace or cannot take images this small."""


class RunError(InputError):
    """A run directory cannot be read, belongs to another experiment or lacks the trial asked for."""


class StorageError(RaybenchError, OSError):
    """A file cannot be written: the disk is full or read-only, or its folder is gone."""

    def __init__(self, message: str) -> None:
        OSError.__init__(self, message)

    def __str__(self) -> str:
        """Return the message."""
        return str(self.args[0])


class InterruptedRunError(RaybenchError):
    """A run was interrupted; everything finished so far is kept and can be resumed."""
