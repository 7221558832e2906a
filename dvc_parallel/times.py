"""Times, as people read them."""


def format_seconds(seconds: float) -> str:
    """A time of a run, such as "0.3 s", "2 min 5 s" or "1 h 12 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
