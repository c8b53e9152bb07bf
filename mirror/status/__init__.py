"""How a fleet's mirrors stand, for those who use the images: values read from the ledger, nothing secret."""
