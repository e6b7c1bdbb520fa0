"""The one exception that a user can cause."""


class UserError(Exception):
    """Bad input: its message says what is wrong, where, and what to do.

    The command line prints the message alone and exits with status 2 (`--debug` shows the traceback); any other
    exception is a defect of the program and keeps its traceback.
    """
