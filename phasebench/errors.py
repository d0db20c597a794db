"""The one exception that a user's input can cause; its message names the option or file and the way out."""


class InputError(ValueError):
    """A model, dataset, file or option that cannot be used as given."""
