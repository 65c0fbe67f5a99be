"""Former place of the page's charts."""
