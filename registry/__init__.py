"""The utility's books in SQL: usage points, meters, installations, gateways, buses, and ingest's ledgers."""
