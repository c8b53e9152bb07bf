"""What the fleet serves by HTTP: webhooks, the status page, and whether it is well."""
