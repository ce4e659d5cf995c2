"""What bases and attentions do: measured, improved by optimisation, knocked out, compared."""
