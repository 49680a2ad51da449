"""Meters that answer on the wire. Run as processes of their own; the services never import them."""
