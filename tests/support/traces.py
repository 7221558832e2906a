"""What is right about a trace."""

import json


def check_trace(trace):
    """What the format asks for, and what Perfetto would leave out."""
    json.dumps(trace)
    for event in trace["traceEvents"]:
        assert {"ph", "name", "pid"} <= set(event)
        assert event["ph"] in "MXCi"
        if event["ph"] != "M":
            assert isinstance(event["ts"], int)
            assert event["ts"] >= 0
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    open_on = {}
    for event in sorted(slices, key=lambda event: (event["ts"], -event["dur"])):
        assert isinstance(event["dur"], int)
        assert event["dur"] >= 0
        stack = open_on.setdefault(event["tid"], [])
        while stack and stack[-1] <= event["ts"]:
            stack.pop()
        end = event["ts"] + event["dur"]
        assert not stack or end <= stack[-1], f"{event} crosses the end of another"
        stack.append(end)
    return slices
