"""The broker: jobs, placement, site work, store, API and command."""


def version() -> str:
    """Of what is installed; `source` where it runs from a checkout alone."""
    from importlib import metadata  # it takes long to import, and most calls of `fed` go without

    try:
        return metadata.version("fedbroker")
    except metadata.PackageNotFoundError:
        return "source"
