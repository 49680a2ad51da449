"""Long work of the API in the background: a table of jobs, a runner, one process per job."""
