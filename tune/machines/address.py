"""Addresses of Ray clusters: HOST:PORT of the cluster, http://HOST:PORT of its job server."""

JOB_SERVER = "http://127.0.0.1:8265"  # Ray's default


def is_server(address: object) -> bool:
    """True if an address belongs to a job server, not to the cluster itself."""
    return str(address).startswith(("http://", "https://"))
