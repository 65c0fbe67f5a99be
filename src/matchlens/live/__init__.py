"""The live microscope: a page in the browser that cuts, scores and explains as one watches."""
