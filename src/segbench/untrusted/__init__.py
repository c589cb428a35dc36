"""Files of others: looked at before any library reads them, so that nothing of theirs runs."""
