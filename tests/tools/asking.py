"""Short forms of requests and answers for tests of language models."""

from bench.llm import ChatRequest, Message, Sampling


def ask(text, schema=None, system=None, **sampling):
    turns = [Message("system", system)] if system else []
    return ChatRequest((*turns, Message("user", text)), Sampling(**sampling), schema)


def answers(model, requests):
    """All answers in the order of their requests."""
    got = dict(model.answer(requests))
    return [got[place] for place in range(len(got))]
