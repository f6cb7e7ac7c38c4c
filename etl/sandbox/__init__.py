"""A local server that behaves as the Connect documentation says: to rehearse mappings against, and to test with.

It is stricter than Norce is known to be, and driven by the contract's data, so that all nine imports work alike.
docs/sandbox.md has the rules and where they are a guess.
"""

from etl.sandbox.asgi import make_app
from etl.sandbox.core import Sandbox
from etl.sandbox.faults import Fault
from etl.sandbox.server import RunningSandbox, run_in_thread, serve
from etl.sandbox.settings import EventSettings, SandboxSettings

__all__ = [
    "EventSettings",
    "Fault",
    "RunningSandbox",
    "Sandbox",
    "SandboxSettings",
    "make_app",
    "run_in_thread",
    "serve",
]
