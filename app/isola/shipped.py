"""Files that the program reads besides its code: revisions, the GraphQL contract and its operations."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped(folder: str) -> Path:
    """A folder that comes with the program: in the package where it is installed, at the top of a checkout otherwise.

    Raises nothing: whether there is such a folder is for the caller.
    """
    installed = _PACKAGE / folder
    return installed if installed.is_dir() else _PACKAGE.parents[1] / folder
