"""No server outlives the test that started it."""

from tests.launch.conftest import _no_server_is_left

__all__ = ["_no_server_is_left"]
