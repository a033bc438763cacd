"""What the tests share: real processes, a load client with a ledger, scrapes, and small apps to serve."""
