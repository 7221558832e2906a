"""All that exists only because released DVC has no ``repro --jobs``.

Nothing outside of this package imports it, and nothing outside of it asks for
DVC's version.
"""
