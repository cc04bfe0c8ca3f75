"""Counting what XLA compiles."""

import contextlib

import jax


@contextlib.contextmanager
def count_compilations():
    """The names of the functions compiled in a `with` block."""
    compiled = []

    def note(event, duration, **details):
        if event.endswith("backend_compile_duration"):
            compiled.append(details.get("fun_name", event))

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
