"""Files that OpenSlide alone does not read rightly: plain images, odd TIFFs, and where they say their mpp."""
