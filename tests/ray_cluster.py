"""Two Ray nodes on this machine; a line on standard input kills the second one. The address is the first line out."""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 256 << 20}

if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    second = cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    print(cluster.address, flush=True)
    if sys.stdin.readline():
        cluster.remove_node(second, allow_graceful=False)
        print("killed", flush=True)
    sys.stdin.read()
    cluster.shutdown()
