"""Who calls, and what they may: identification, the table of routes and roles, limits by area."""
