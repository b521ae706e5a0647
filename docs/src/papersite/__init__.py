"""The site: built from the write-ups, figures, notebooks, records and results."""
