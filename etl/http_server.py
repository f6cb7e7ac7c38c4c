"""Settings of the HTTP servers of this program: the sandbox and the webhook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import uvicorn


def server_config(application: Callable[..., Any], **settings: Any) -> uvicorn.Config:
    """Return the configuration of a server that writes no log lines and says nothing of itself.

    Args:
        application: an ASGI application without a lifespan.
        settings: further settings of uvicorn, such as its address and its limits.
    """
    return uvicorn.Config(
        application,
        log_config=None,
        log_level="critical",
        access_log=False,
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        loop="asyncio",
        http="h11",
        ws="none",
        **settings,
    )
