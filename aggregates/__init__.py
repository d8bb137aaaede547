"""What may happen: frozen state, intentions, evolve; no I/O, no clock, no ids made inside."""
