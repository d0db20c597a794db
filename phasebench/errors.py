"""The one exception that a user's input can cause; its message names the option or file and the way out."""


class InputError(ValueError):
    """A model, dataset, file or option that cannot be used as given."""


OF_TRANSFORMERS = (
    OSError, ValueError, KeyError, TypeError, ImportError, AttributeError, RuntimeError,
)  # fmt: skip
"""What transformers raises at a checkpoint that is not what it should be."""
