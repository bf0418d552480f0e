"""Who is calling? One module per kind of credential; `chain` asks the one that is responsible for a token."""
