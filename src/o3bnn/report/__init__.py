"""Tables for the terminal, and pages with plots for the browser."""
