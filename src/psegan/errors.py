"""The one exception that users see as a single line."""


class PseganError(Exception):
    """A user's error: one line that names the file or key and the remedy.

    The command line prints it without a traceback and exits with status 1; everything else that is raised
    is a defect of ours and keeps its traceback.
    """
