"""A stand-in of a cluster for every test here."""

from cluster.world import make_world  # noqa: F401
