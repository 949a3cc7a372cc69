"""metrics: what Prometheus needs to know of a cluster."""

import json

from kirsch.cli.completion import clusters
from kirsch.cli.verb import Noun, Options, argument

metrics = Noun("metrics")


@metrics.verb(
    "targets",
    "print a cluster's machines for Prometheus",
    argument("name", "CLUSTER", "the cluster's name", complete=clusters),
    text="The output is what Prometheus reads as file-based service discovery (file_sd_configs): one target "
    "for each machine, with the labels cluster, machine and those of its metadata.",
    example="kirsch metrics targets demo > /etc/prometheus/kirsch.json",
)
def targets(options: Options) -> int:
    """Print the endpoints of all machines of a cluster, from its record."""
    from kirsch.cluster.provision.record import ClusterRecord

    record = ClusterRecord.load(options.name)
    found = [
        {
            "targets": [machine.endpoint.removeprefix("https://")],
            "labels": {"cluster": record.name, "machine": machine.name, **machine.metadata},
        }
        for machine in record.machines
    ]
    print(json.dumps(found, indent=2))
    return 0
