"""Login with TLS-SRP, and a safe byte stream."""

from srp_tools.version import module_attribute

__version__: str


def __getattr__(name: str) -> str:
    return module_attribute(__name__, name)
