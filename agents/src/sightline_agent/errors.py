"""Errors of the agent that carry their own answer.

`ProblemError` travels from wherever a request fails to the one exception handler in `control/app.py`,
which writes it as `application/problem+json`. `SettingsError` ends the process with a sentence.
Source failures have their own tree (`sources/base.SourceError`), SDP failures theirs (`signaling`).
"""

from sightline_model.problems import Problem


class ProblemError(Exception):
    """A failed request together with what the client is told. Never holds a credential."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem


class SettingsError(Exception):
    """The process cannot start with what it was given; the message is for the person who started it."""
