"""Names of torch that are not public.

An upgrade that removes one fails the test of this module, which says what it was used for.
"""


def compile_error() -> type[Exception]:
    """Return the exception that a compiled function raises if compiling fails."""
    from torch._dynamo.exc import TorchDynamoException  # importing it takes seconds

    return TorchDynamoException
