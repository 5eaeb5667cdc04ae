"""The one exception a user is meant to read."""


class UserError(Exception):
    """Report bad input in one sentence: what is wrong, where, and what to do.

    `main.py` prints the sentence alone and exits with code 2; any other exception is a bug and keeps
    its traceback.
    """
