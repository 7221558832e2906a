"""A run that has been recorded, as a page and as a trace.

    timeline.py       when each stage did what, and in which slot
    critical.py       what made the run end when it did
    summary.py        where the time went
    page.py           all that as one HTML file: sections.py, markup.py, page.js
    markdown.py       all that for the summary of a job in CI
    compare.py        two runs side by side
    chrome_trace.py   all that for Perfetto and chrome://tracing

All of these are pure, and know neither DVC nor records.
"""
