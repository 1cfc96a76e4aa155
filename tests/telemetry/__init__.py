"""Tests of the room `tertulia.telemetry`."""
