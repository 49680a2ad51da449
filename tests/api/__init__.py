"""Tests of the API: routes over ASGI, limits over real sockets."""
