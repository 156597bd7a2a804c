"""The one exception for mistakes that the user can mend."""


class UserError(ValueError):
    """A wrong option, file or checkpoint, told in one line.

    The message names the option (or file), its value and what is allowed, for
    example ``--encoder-kernel-size-list has 4 entries, but --encoder-layers is 7``.
    Command-line programs print it without a traceback and exit with status 1.
    """
