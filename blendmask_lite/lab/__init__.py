"""Look inside BlendMask by hand: widgets that arrange figures and canvases in a notebook."""
