"""Real processes, real sockets, real disks: simulator -> gateway -> broker -> ingest -> store -> API."""
