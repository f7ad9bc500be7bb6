"""The page that shows what is live and how it does: facts.py what it says, sections.py and page.py how."""
