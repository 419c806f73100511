"""Names of torch that are not public.

If an upgrade removes one, the test of this module fails and says what the name was used for.
"""


def compile_error() -> type[Exception]:
    """Return the exception that a compiled function raises if compiling fails."""
    from torch._dynamo.exc import TorchDynamoException  # importing it takes seconds

    return TorchDynamoException
