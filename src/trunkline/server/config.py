"""What the server needs to know. Typed and frozen; flags, environment and reference page are
derived from it (the description of a field is its only help text).
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from trunkline.server.http.limits import Limits


class ServerConfig(Limits, frozen=True, kw_only=True):
    """Options of the server, besides those of each connection that `Limits` has."""

    host: Annotated[str, Meta(description="Address to listen on; 0.0.0.0 for all of IPv4.")] = (
        "127.0.0.1"
    )
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Port to listen on; 0 = one that is free.")
    ] = 8000
    listen: Annotated[
        tuple[str, ...],
        Meta(
            description="Listen on HOST:PORT, [IPV6]:PORT or unix:PATH instead of --host, --port."
        ),
    ] = ()
    api_key: Annotated[
        tuple[str, ...],
        Meta(description="Key that clients of /v1 must send; without one nobody is asked."),
    ] = ()
    served_model_name: Annotated[
        tuple[str, ...], Meta(description="Further name of the default model.")
    ] = ()
    drain_timeout: Annotated[
        float,
        Meta(ge=0, description="Seconds that answers under way may take after SIGTERM."),
    ] = 30.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Least severe messages to log; info has a line per request."),
    ] = "info"

    def aliases(self, model: str) -> tuple[str, ...]:
        """Further names of the default model, each once and without its own, `model`."""
        return tuple(name for name in dict.fromkeys(self.served_model_name) if name != model)

    def addresses(self) -> tuple[str, ...]:
        """Where to listen, as `--listen` spells it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.listen or (f"{host}:{self.port}",)
