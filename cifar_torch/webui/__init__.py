"""The tabs of the web app, one file a tab, and its texts, one file a language."""
