"""Results in the browser: slides as deep zoom, maps as a live overlay, lesions to accept or reject."""
