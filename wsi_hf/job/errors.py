"""An error as a sentence, for people who typed a command."""


def in_words(error: Exception) -> str:
    """What happened and to which file, without the number that the system has for it."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}"
    return str(error)
