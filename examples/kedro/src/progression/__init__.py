"""How far diabetes has progressed after a year, from ten measurements."""
