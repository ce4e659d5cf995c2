"""What a real Chromium shows: notebooks in JupyterLab, widgets, the dashboard, the site."""
