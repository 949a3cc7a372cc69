"""Which kirschd a command line is for."""

import argparse

from kirsch.cluster.api.client import TIMEOUT, Client
from kirsch.cluster.provision.endpoint import Where, locate


def client_of(options: argparse.Namespace, timeout: float = TIMEOUT) -> Client:
    """A client of the kirschd that the options name (--endpoint, --cluster, --tunnel), or the environment, or
    the folder we are in. Raises ClientError."""
    return Client(locate(Where.said(options.endpoint, options.cluster, options.tunnel)), timeout)
