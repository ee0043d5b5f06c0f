"""Small federations, drawn at random: sites that are all alike, and links between them."""

from hypothesis import strategies as st

from topology.dataset import DatasetId
from topology.link import Link
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

NAMES = ("ams", "fra", "iad", "osl", "sin")
CORPUS = DatasetId("default", "corpus", "1")

links = st.lists(
    st.builds(
        Link,
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
        st.floats(0.01, 100),
        st.floats(0, 300),
        st.sampled_from([0.0, 0.01, 0.02, 0.09]),
    ).filter(lambda link: link.source != link.target),
    max_size=12,
    unique_by=lambda link: link.name,
)


def a_site(name):
    return Site(name, Engine("process"), (Pool("cpu", 1, Resources(4.0)),), Storage(f"file:///srv/{name}"))
