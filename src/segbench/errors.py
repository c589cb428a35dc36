"""Mistakes a user can fix."""


class InputError(ValueError):
    """Bad input, in one line: what is wrong, where, the limit and the way out.

    A stage prints it without a traceback and exits with status 1; any other exception is a defect
    of segbench and keeps its traceback.
    """
