"""The one error of the cluster scripts: its text tells a person what to do next."""


class ClusterError(Exception):
    """A step could not be done; the message says what is wrong and what helps."""
