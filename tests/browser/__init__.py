"""The pages in a real browser: Debian's Chromium, driven over WebDriver."""
