"""Charts as inline SVG: colours are classes, so that light and dark are the style sheet's."""
