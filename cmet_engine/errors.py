"""The one exception that the engine shows to its users."""


class CmetError(Exception):
    """The work cannot be done. The message is one clear sentence that names the file or field and what to do.

    Raised where the fact is known, printed once at the edge (command line, HTTP answer, Blender panel); the
    command line turns it into exit status 1.
    """
