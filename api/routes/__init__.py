"""The addresses, thin over `api.queries`: check, call, answer."""
