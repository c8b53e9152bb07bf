"""What the fleet serves by HTTP: webhooks, and whether it is well."""
