"""Two sites of real processes, as documents."""

import textwrap

SITE = """
kind: Site
name: {name}
engine: {{kind: process}}
pools: [{{name: cpu, nodes: 1, per_node: {{cpus: 4, memory_gib: 8}}}}]
storage: {{url: "file://{folder}"}}
"""
CORPUS = "{kind: Dataset, name: corpus, replicas: [{site: ams, path: corpus}]}"
"""What ams has and fra has not."""


def declare(up, folder, *more):
    """Make places for ams and fra below `folder`, and apply them with a link from one to the other, and `more` documents."""
    documents = ["{kind: Link, from: ams, to: fra, bandwidth_gbps: 10}", *more]
    for name in ("ams", "fra"):
        (folder / name).mkdir(exist_ok=True)
        documents.append(SITE.format(name=name, folder=folder / name))
    said = up.fed("apply", "-f", "-", stdin="\n---\n".join(map(textwrap.dedent, documents)))
    assert (said.code, said.err) == (0, "")
