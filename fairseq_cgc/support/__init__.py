"""What every room uses and what knows no model: errors, files, records of settings, options."""
