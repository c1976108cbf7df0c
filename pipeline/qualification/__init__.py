"""Qualification of an endpoint: is it what it should be, does it work, are its verdicts right."""
