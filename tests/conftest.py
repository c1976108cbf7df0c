"""Fixtures for every test."""

from servers import *  # noqa: F403
