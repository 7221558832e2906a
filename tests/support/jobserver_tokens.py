"""Tokens of a jobserver."""


def free(jobserver):
    tokens = []
    while (token := jobserver.take()) is not None:
        tokens.append(token)
    for token in tokens:
        jobserver.give_back(token)
    return len(tokens)
