"""The run folder, the ledger database, and durable files for metrics and outcomes. No torch."""
