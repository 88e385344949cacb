"""HTTP/1.1 on asyncio transports: framing, limits, timeouts, backpressure, ASGI bridge."""
