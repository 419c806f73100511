"""Addresses of Ray clusters: HOST:PORT of the cluster, http://HOST:PORT of its job server."""

JOB_SERVER = "http://127.0.0.1:8265"  # Ray's default


def is_server(address: object) -> bool:
    """Whether an address is a job server's, not that of the cluster itself."""
    return str(address).startswith(("http://", "https://"))
