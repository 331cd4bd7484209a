"""What an environment shall be: templates, parameters, quantities, image policy, names and labels. No I/O here."""
