"""What the engine's users are told when work cannot be done: one sentence, with its HTTP status and exit code.

Raised where the fact is known; printed once, at the edge (command line, HTTP answer, Blender panel).
"""

from typing import ClassVar


def on_one_line(text: str) -> str:
    """A text with a question mark for everything that cannot be printed."""
    return "".join(character if character.isprintable() else "?" for character in text)


class CmetError(Exception):
    """The work cannot be done. The message is one clear sentence that names the file or field and what to do.

    Attributes:
        http_status: status of the engine's answer to a request that ends so.
        exit_code: exit status of a command that ends so.
    """

    http_status: ClassVar[int] = 422
    exit_code: ClassVar[int] = 1

    def __str__(self) -> str:
        """The message on one line, whatever it quotes."""
        return on_one_line(super().__str__())


class InvalidInput(CmetError):
    """A file, a field or a setting cannot be used as it is."""


class NotFound(CmetError):
    """A job, a file or a result does not exist."""

    http_status = 404


class MissingWeights(CmetError):
    """The work needs weights, a package or a device that this machine does not have."""

    http_status = 424


class Busy(CmetError):
    """Too much is waiting already, or another process is working on the same output."""

    http_status = 429


class Cancelled(CmetError):
    """The user stopped the work."""

    http_status = 409
