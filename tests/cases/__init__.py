"""Recorded cases. A folder with plan.toml, recording.jsonl and expected/ is a test; see README.md."""
