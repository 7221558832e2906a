"""How the output of stages is shown."""

PREFIXED = "prefixed"  # each line as it comes, with the name of its stage
GROUPED = "grouped"  # all lines of a stage when its commands have ended
FAILED = "failed"  # all lines of a stage that has failed
NONE = "none"

OUTPUT_MODES = (PREFIXED, GROUPED, FAILED, NONE)
CONFIG_OPTION = "parallel_output"


def parse_output(value: str) -> str:
    """Check a mode as users write it.

    Raises:
        ValueError: there is no such mode; the message says which there are.
    """
    mode = str(value).strip().lower()
    if mode in OUTPUT_MODES:
        return mode
    modes = ", ".join(f"'{mode}'" for mode in OUTPUT_MODES)
    raise ValueError(f"expected one of {modes}, got '{value}'")
