"""Documents that say no more than they must."""

NODE = "per_node: {cpus: 4, memory_gib: 8}"
SITE = """kind: Site
name: ams
engine: {kind: process}
pools: [{name: cpu, nodes: 2, per_node: {cpus: 4, memory_gib: 8}}]
storage: {url: "file:///srv/ams"}
"""
LINK = "kind: Link\nfrom: ams\nto: fra\nbandwidth_gbps: 1\n"
DATASET = "kind: Dataset\nname: corpus\n"
TENANT = "kind: Tenant\nname: vision\n"
JOB = {"name": "count", "command": ["true"]}
