"""The tiny federation of the integration tests, for faults in real processes."""

from tests.integration.conftest import tiny_federation

__all__ = ["tiny_federation"]
