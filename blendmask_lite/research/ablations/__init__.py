"""The paper's ablations, repeated on generated shapes: tables, runs, reports."""
