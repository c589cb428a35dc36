"""The one exception that a user can put right."""


class InputError(ValueError):
    """Bad input: one line that says what, where, the limit and the way out.

    A stage prints it without a traceback and exits with 1; any other exception is a defect of
    segbench and keeps its traceback.
    """
