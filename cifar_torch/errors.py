"""Errors that are a sentence for the person at the keyboard."""


class UserError(Exception):
    """Something that the user can mend. Commands print it, without a traceback, and exit with 2."""


class ReasonedError(UserError):
    """One that gives its `reason` in a word, for callers that say it in another language, and what
    that sentence needs: the `name` of what is meant."""

    def __init__(self, reason: str, message: str, name: str = ""):
        super().__init__(reason, message, name)  # all, to be unpickled in another process
        self.reason, self.name = reason, name

    def __str__(self) -> str:
        return str(self.args[1])


def reworded(error: UserError, message: str) -> UserError:
    """The same with another message."""
    return (
        ReasonedError(error.reason, message, error.name)
        if isinstance(error, ReasonedError)
        else UserError(message)
    )
