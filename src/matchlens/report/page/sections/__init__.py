"""The page's sections: each reads its tables and makes exhibits."""
