"""The `fed` command: each verb is a thin call of `broker.client`."""
