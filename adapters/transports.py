"""How commands reach a site, as its settings say: here, or over SSH where its library is installed."""

from __future__ import annotations

from adapters.commands import Commands, LocalCommands, LocalTransport, SshTransport


def open_commands(transport: LocalTransport | SshTransport) -> Commands:
    """Where the settings say. Nothing is called yet. Raises ValueError for SSH where its library is not installed."""
    if isinstance(transport, LocalTransport):
        return LocalCommands(transport.env)
    try:
        from adapters.ssh import SshCommands
    except ImportError as error:
        raise ValueError("transport ssh needs asyncssh: install fedbroker[ssh]") from error
    return SshCommands(transport)
