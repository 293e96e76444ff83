"""What is said of another library's error."""


def first_line(error: BaseException) -> str:
    """Its first line, or its class where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
