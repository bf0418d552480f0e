"""What can go wrong inside the operator, beside the port's own ClusterError tree.

OperatorError
+-- AgentCallError       an agent did not carry out what it was told; try again later
+-- NotOursError         an object of the name that we need belongs to somebody else; a person has to act
+-- LeaseLostError       another operator may be working now; the process must end
+-- TaskEndedError       a task that runs for the operator's whole life has ended; the process must end too
"""


class OperatorError(Exception):
    """The base of all; its text is fit for people."""


class AgentCallError(OperatorError):
    """An agent did not do what it was told."""


class NotOursError(OperatorError):
    """Somebody else's object has the name."""


class LeaseLostError(OperatorError):
    """This operator can no longer be sure to be the only one."""


class TaskEndedError(OperatorError):
    """Something that must not end has ended."""
