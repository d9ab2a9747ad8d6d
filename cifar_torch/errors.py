"""The one kind of error that is a sentence for the person at the keyboard."""


class UserError(Exception):
    """Something that the user can mend. Commands print it, without a traceback, and exit with 2."""
